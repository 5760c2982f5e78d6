defmodule Koma.Job.Lifecycle do
  @moduledoc """
  The states of a job and what may happen in each: one table, no processes. It is printed in
  docs/lifecycle.md, where a test holds it to this one.
  """

  @ends %{"failed" => "failed", "cancelled" => "cancelled", "expired" => "expired"}

  # A job is completed at once when an equal request was answered before (Koma.Cache).
  # "queued" happens again when the place changes, and after a restart.
  @table %{
    "accepted" => Map.merge(@ends, %{"queued" => "queued", "completed" => "completed"}),
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
  @order ~w(accepted queued running retrying)

  @type state :: String.t()
  @type event :: String.t()

  @doc "The table: state to a map of event to next state."
  @spec table() :: %{state => %{event => state}}
  def table, do: @table

  @doc "Every state."
  @spec states() :: [state]
  def states, do: @order ++ @terminal

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

  @doc "The table for the documentation: one row per state, one column per event."
  @spec to_markdown() :: String.t()
  def to_markdown do
    events = Enum.sort(events())
    header = ["state" | Enum.map(events, &"`#{&1}`")]
    rows = for state <- states(), do: ["`#{state}`" | Enum.map(events, &cell(state, &1))]
    [header, Enum.map(header, fn _column -> "---" end) | rows] |> Enum.map_join("\n", &row/1)
  end

  defp cell(state, event) do
    case next(state, event) do
      {:ok, next} -> next
      :error -> "–"
    end
  end

  defp row(cells), do: "| #{Enum.join(cells, " | ")} |"
end
