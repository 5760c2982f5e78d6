defmodule Koma.FailureList do
  @moduledoc """
  An ExUnit formatter that names every failed test once more when the suite has ended, so that the
  last lines of a long log tell what failed.
  """

  use GenServer

  @impl true
  def init(_options), do: {:ok, []}

  @impl true
  def handle_cast({:test_finished, %ExUnit.Test{state: {kind, _reason}} = test}, failed)
      when kind in [:failed, :invalid],
      do: {:noreply, ["#{location(test.tags)} #{test.name}" | failed]}

  def handle_cast({:suite_finished, _times}, [_ | _] = failed) do
    IO.puts(["\nFailed:\n" | failed |> Enum.reverse() |> Enum.map(&["  ", &1, "\n"])])
    {:noreply, failed}
  end

  def handle_cast(_event, failed), do: {:noreply, failed}

  defp location(%{file: file, line: line}), do: "#{Path.relative_to_cwd(file)}:#{line}"
end
