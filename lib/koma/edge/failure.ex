defmodule Koma.Edge.Failure do
  @moduledoc """
  Tells a core that restarts at this moment from an error of the edge itself: the first is
  answered with `unavailable`, the second crashes what it happens in.
  """

  alias Koma.Error

  # The last part of the core to start.
  @last_part Koma.Job.Processes
  @retry_after_ms 1_000

  @doc "What to answer when a call into the core ended like this, or `:error` for a bug."
  @spec unavailable(kind :: :error | :exit | :throw, reason :: term) :: {:ok, Error.t()} | :error
  def unavailable(:exit, {_reason, {GenServer, :call, _arguments}}), do: {:ok, error()}

  # The tables of a process are gone when it is.
  def unavailable(:error, reason) when reason == :badarg or is_struct(reason, ArgumentError) do
    if Process.whereis(@last_part), do: :error, else: {:ok, error()}
  end

  def unavailable(_kind, _reason), do: :error

  defp error do
    message = "This part of the server is restarting; try again."
    Error.new("unavailable", message, retry_after_ms: @retry_after_ms)
  end
end
