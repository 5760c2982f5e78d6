defmodule Koma.Caller do
  @moduledoc """
  Who asks: the id of an API key, or `nil` where keys are not configured, and the process that
  wants what is asked for: a socket for its topics, `nil` for the process that asks.
  """

  defstruct [:key, :process]

  @type t :: %__MODULE__{key: String.t() | nil, process: pid | nil}
end
