defmodule Koma.Caller do
  @moduledoc "Who asks: the id of an API key, or `nil` where keys are not configured."

  defstruct key: nil

  @type t :: %__MODULE__{key: String.t() | nil}
end
