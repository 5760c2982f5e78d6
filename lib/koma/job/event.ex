defmodule Koma.Job.Event do
  @moduledoc """
  Something that happened to a job. `seq` counts 1, 2, … without gaps; `data` holds the further
  fields of its type, as docs/api.md lists them, with string keys.
  """

  @enforce_keys [:seq, :type, :at, :data]
  defstruct [:seq, :type, :at, :data]

  @type t :: %__MODULE__{
          seq: pos_integer,
          type: String.t(),
          at: integer,
          data: %{String.t() => term}
        }

  @doc "The payload that clients get: `data` with the job's id, the number and the time in ms."
  @spec payload(t, String.t()) :: %{String.t() => term}
  def payload(%__MODULE__{seq: seq, at: at, data: data}, id) do
    Map.merge(data, %{"id" => id, "seq" => seq, "at" => at})
  end
end
