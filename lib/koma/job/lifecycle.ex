defmodule Koma.Job.Lifecycle do
  @moduledoc """
  The states of a job and what may happen in each: one table, no processes.

  | state | event → next state |
  |---|---|
  | `accepted` | `queued` → queued |
  | `queued` | `queued` → queued (again, after a restart), `started` → running |
  | `running` | `progress`, `token` → running, `retrying` → retrying, `completed` → completed |
  | `retrying` | `queued` → queued |
  | any of these | `failed` → failed, `cancelled` → cancelled, `expired` → expired |

  `completed`, `failed`, `cancelled` and `expired` are terminal: nothing happens to such a job.
  """

  @ends %{"failed" => "failed", "cancelled" => "cancelled", "expired" => "expired"}

  @table %{
    "accepted" => Map.merge(@ends, %{"queued" => "queued"}),
    "queued" => Map.merge(@ends, %{"queued" => "queued", "started" => "running"}),
    "running" =>
      Map.merge(@ends, %{
        "progress" => "running",
        "token" => "running",
        "retrying" => "retrying",
        "completed" => "completed"
      }),
    "retrying" => Map.merge(@ends, %{"queued" => "queued"})
  }

  @terminal ~w(completed failed cancelled expired)

  @type state :: String.t()
  @type event :: String.t()

  @doc "The table: state to a map of event to next state."
  @spec table() :: %{state => %{event => state}}
  def table, do: @table

  @doc "Every state."
  @spec states() :: [state]
  def states, do: Map.keys(@table) ++ @terminal

  @doc "Every event."
  @spec events() :: [event]
  def events, do: @table |> Map.values() |> Enum.flat_map(&Map.keys/1) |> Enum.uniq()

  @doc "The state after an event, or `:error` where it may not happen."
  @spec next(state, event) :: {:ok, state} | :error
  def next(state, event) do
    with {:ok, row} <- Map.fetch(@table, state), do: Map.fetch(row, event)
  end

  @doc "Whether nothing happens any more in this state."
  @spec terminal?(state) :: boolean
  def terminal?(state), do: state in @terminal
end
