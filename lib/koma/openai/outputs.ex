defmodule Koma.OpenAI.Outputs do
  @moduledoc "Results of jobs as answers have them: as base64, or as an address of this server."

  alias Koma.{Cluster, Error, Transfer}
  alias Koma.Store.Artifacts

  @doc "The outputs of a job whose media type begins with `kind`, such as `image/`."
  @spec of(job :: map, kind :: String.t()) :: [map]
  def of(%{"outputs" => outputs}, kind) do
    Enum.filter(outputs, &String.starts_with?(&1["media_type"], kind))
  end

  @doc "The bytes of an output in base64."
  @spec base64(output :: map, Koma.Caller.t()) :: {:ok, String.t()} | {:error, Error.t()}
  def base64(%{"artifact" => id}, %Koma.Caller{key: key}) do
    with {:ok, artifact} <- find(id, key),
         {:ok, bytes} <- File.read(artifact.path) do
      {:ok, Base.encode64(bytes)}
    else
      {:error, %Error{} = error} -> {:error, error}
      {:error, reason} -> {:error, Error.new("internal", "The result is not readable: #{reason}")}
    end
  end

  @doc "An artifact that the key may see, wherever in the cluster it is."
  @spec find(id :: String.t(), key :: String.t() | nil) ::
          {:ok, Artifacts.artifact()} | {:error, Error.t()}
  def find(id, key) do
    if Cluster.on?(), do: Transfer.find(id, key), else: Artifacts.renew(id, key)
  end

  @doc """
  The address of a path of this server as its client reaches it: by the `Host` that it asked for,
  and by the scheme that a proxy before the server tells.
  """
  @spec url(:cowboy_req.req(), path :: String.t()) :: String.t()
  def url(req, path) do
    scheme =
      case :cowboy_req.header("x-forwarded-proto", req, nil) do
        scheme when scheme in ["http", "https"] -> scheme
        _none_or_strange -> :cowboy_req.scheme(req)
      end

    scheme <> "://" <> :cowboy_req.header("host", req, "localhost") <> path
  end

  @doc "How many tokens of the prompt the model read, of how many."
  @spec prompt_tokens(job :: map) :: non_neg_integer
  def prompt_tokens(%{"outputs" => [%{"meta" => %{"prompt_tokens" => tokens}} | _more]}),
    do: tokens

  def prompt_tokens(_job), do: 0
end
