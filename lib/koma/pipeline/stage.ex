defmodule Koma.Pipeline.Stage do
  @moduledoc "One stage of a pipeline, as it was asked for: references are not yet followed."

  @enforce_keys [:name, :task]
  defstruct [:name, :task, :model, params: %{}, inputs: %{}, needs: []]

  @type t :: %__MODULE__{
          name: String.t(),
          task: String.t(),
          model: String.t() | nil,
          params: map,
          inputs: map,
          needs: [String.t()]
        }
end
