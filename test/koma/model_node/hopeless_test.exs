defmodule Koma.ModelNode.HopelessTest do
  use Koma.CoreCase

  alias Koma.ModelNode
  alias Koma.ModelNode.Catalogue

  @moduletag capture_log: true

  test "a model node whose family is not installed says so once and is not started again", %{
    dir: dir
  } do
    start_core(dir, models: [toy(), toy(%{name: "tone", family: "tone"})], wait: false)
    row = await_death(0)
    assert {%{code: "load_failed", message: message}, at} = row.last_error
    assert message =~ ~s(no family "tone" is installed, only amused)
    # No timer runs that would start it.
    assert {:ok, %{timer: nil, process: nil}} = state("tone-1")

    # Nobody waits for it, and the others work.
    eventually(fn -> Catalogue.live?("toy") end)
    assert List.last(await_end(submit!()["id"])).type == "completed"
    assert {:error, %{code: "unknown_task"}} = Koma.submit(%{"task" => "tone.run"}, %Caller{})

    # An operator may have installed it meanwhile.
    assert ModelNode.order("tone-1", :restart) == :ok
    assert {%{code: "load_failed"}, _again} = await_death(at).last_error
  end

  defp await_death(after_ms) do
    eventually(fn -> dead?(row("tone-1"), after_ms) end)
    row("tone-1")
  end

  defp dead?(%{phase: :waiting, last_error: {_error, at}}, after_ms), do: at > after_ms
  defp dead?(_still_starting, _after_ms), do: false

  defp row(name), do: Enum.find(Catalogue.rows(), &(&1.spec.name == name))

  defp state(name) do
    [{pid, _value}] = Registry.lookup(Koma.ModelNode.Registry, name)
    {:ok, :sys.get_state(pid)}
  end
end
