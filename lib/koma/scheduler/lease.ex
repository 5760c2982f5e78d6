defmodule Koma.Scheduler.Lease do
  @moduledoc "A slot of a model node, held by one job until that node says it is free again."

  @enforce_keys [:node, :pid]
  defstruct [:node, :pid]

  @type t :: %__MODULE__{node: String.t(), pid: pid}
end
