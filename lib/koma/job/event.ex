defmodule Koma.Job.Event do
  @moduledoc """
  Something that happened to a job. `seq` counts 1, 2, … without gaps; `data` holds the further
  fields of its type, as docs/api.md lists them, with string keys. `json` is the payload as text,
  made once by whoever tells it, for all who follow; what is stored has none.
  """

  alias Koma.JSON

  @enforce_keys [:seq, :type, :at, :data]
  defstruct [:seq, :type, :at, :data, :json]

  @type t :: %__MODULE__{
          seq: pos_integer,
          type: String.t(),
          at: integer,
          data: %{String.t() => term},
          json: binary | nil
        }

  @doc "The payload that clients get: `data` with the job's id, the number and the time in ms."
  @spec payload(t, String.t()) :: %{String.t() => term}
  def payload(%__MODULE__{seq: seq, at: at, data: data}, id) do
    Map.merge(data, %{"id" => id, "seq" => seq, "at" => at})
  end

  @doc "With the text of its payload, for those who follow `id`."
  @spec encode(t, String.t()) :: t
  def encode(%__MODULE__{} = event, id), do: %{event | json: json(event, id)}

  @doc "The payload as JSON text."
  @spec json(t, String.t()) :: binary
  def json(%__MODULE__{json: json}, _id) when is_binary(json), do: json
  # From the store, perhaps of a version that did not know the field.
  def json(event, id), do: event |> payload(id) |> JSON.encode!()
end
