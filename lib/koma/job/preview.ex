defmodule Koma.Job.Preview do
  @moduledoc "The latest picture of what a running job's result looks like; droppable."

  @enforce_keys [:step, :total, :media_type, :width, :height, :data]
  defstruct [:step, :total, :media_type, :width, :height, :data]

  @type t :: %__MODULE__{
          step: non_neg_integer,
          total: non_neg_integer,
          media_type: String.t(),
          width: non_neg_integer,
          height: non_neg_integer,
          data: binary
        }
end
