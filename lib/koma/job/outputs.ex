defmodule Koma.Job.Outputs do
  @moduledoc "Moves the outputs of a finished attempt into the artifact store."

  alias Koma.Error
  alias Koma.Store.Artifacts

  @doc """
  Returns the outputs as clients see them (docs/api.md). Files must lie in `dir`, which the model
  node was told to use, and have the digests that it told.
  """
  @spec adopt([map], Path.t()) :: {:ok, [map]} | {:error, Error.t()}
  def adopt(outputs, dir) do
    outputs
    |> Enum.reduce_while([], fn output, done ->
      case adopt_one(output, dir) do
        {:ok, adopted} -> {:cont, [adopted | done]}
        {:error, error} -> {:halt, {:error, error}}
      end
    end)
    |> case do
      {:error, error} -> {:error, error}
      done -> {:ok, Enum.reverse(done)}
    end
  end

  defp adopt_one(%{path: nil, text: text} = output, _dir) when is_binary(text) do
    {:ok, Map.merge(common(output), %{"text" => text, "bytes" => byte_size(text)})}
  end

  defp adopt_one(%{path: path, sha256: sha256} = output, dir) when is_binary(path) do
    with :ok <- inside(path, dir),
         {:ok, artifact} <- Artifacts.adopt(path, output.media_type, sha256 || "") do
      {:ok, Map.merge(common(output), file(artifact))}
    end
  end

  defp adopt_one(%{name: name}, _dir) do
    {:error, Error.new("model_failed", "The output #{inspect(name)} has neither path nor text")}
  end

  defp inside(path, dir) do
    expanded = Path.expand(path)

    if String.starts_with?(expanded, Path.expand(dir) <> "/"),
      do: :ok,
      else: {:error, Error.new("model_failed", "The output #{inspect(path)} lies outside #{dir}")}
  end

  defp common(output) do
    %{"name" => output.name, "media_type" => output.media_type, "meta" => output.meta || %{}}
  end

  defp file(artifact) do
    %{
      "artifact" => artifact.id,
      "bytes" => artifact.bytes,
      "url" => "/v1/artifacts/#{artifact.id}"
    }
  end
end
