defmodule Koma.Once do
  @moduledoc """
  Requests that are made once, however often they come.

  A client that got no answer cannot know whether its request was accepted. With an
  `idempotency_key` it may send the request again: the first one that is accepted makes the job or
  the pipeline, and every later one is answered with what the first one made. The same key with
  another request is a `conflict`.

  The id of what is made follows from the API key and the idempotency key. So the job or the
  pipeline, which is stored before it is accepted, is itself the memory of the key: it survives a
  restart, is written at no cost, and lasts as long as the job or the pipeline is kept.

  The method is that of the IETF's draft "The Idempotency-Key HTTP Header Field".
  """

  alias Koma.{Caller, Cluster, Error, Schema}

  @enforce_keys [:name, :digest]
  defstruct @enforce_keys

  @typedoc "`name` is the part of the id that follows from the keys; `digest` tells one request from another."
  @type t :: %__MODULE__{name: String.t(), digest: binary}

  @doc "What was made on this gateway under this name: the digest of its request, and what a client is told."
  @callback made(name :: String.t(), Caller.t()) ::
              {:ok, digest :: binary, map} | :error | {:error, Error.t()}

  @doc "Makes what is asked for; `once` is nil for a request without a key."
  @callback make(request :: term, once :: t | nil, Caller.t()) ::
              {:ok, map} | {:error, Error.t()}

  @field "idempotency_key"
  @key %{
    "type" => "object",
    "properties" => %{
      @field => %{"type" => ["string", "null"], "minLength" => 1, "maxLength" => 255}
    }
  }

  @doc "Has `module` make what is asked for, or answers with what the same request made before."
  @spec submit(module, request :: term, Caller.t()) :: {:ok, map} | {:error, Error.t()}
  def submit(module, %{@field => key} = request, caller) do
    with {:ok, _checked} <- Schema.check(@key, %{@field => key}) do
      request = Map.delete(request, @field)

      if key == nil,
        do: module.make(request, nil, caller),
        else: alone(module, request, once(module, key, request, caller), caller)
    end
  end

  def submit(module, request, caller), do: module.make(request, nil, caller)

  # Two that come at the same time: the second one waits, and finds what the first one made.
  defp alone(module, request, once, caller) do
    :global.trans(
      {{__MODULE__, once.name}, self()},
      fn -> find(module, request, once, caller) end,
      [
        node()
      ]
    )
  end

  defp find(module, request, %__MODULE__{digest: digest} = once, caller) do
    case anywhere(module, once.name, caller) do
      {:ok, ^digest, made} -> {:ok, made}
      {:ok, _another, _made} -> {:error, conflict()}
      {:error, error} -> {:error, error}
      :error -> module.make(request, once, caller)
    end
  end

  defp anywhere(module, name, caller) do
    with :error <- module.made(name, caller) do
      {module, :made, [name, caller]}
      |> Cluster.ask_gateways()
      |> Enum.find(:error, &match?({:ok, _digest, _made}, &1))
    end
  end

  defp once(module, key, request, caller) do
    <<bits::binary-size(16), _rest::binary>> = digest({module, caller.key, key})
    name = Base.encode32(bits, case: :lower, padding: false)
    %__MODULE__{name: name, digest: digest(request)}
  end

  defp digest(term), do: :crypto.hash(:sha256, :erlang.term_to_binary(term, [:deterministic]))

  defp conflict do
    message = "Another request was made with this idempotency key; a new request needs a new key"
    Error.new("conflict", message, field: @field)
  end
end
