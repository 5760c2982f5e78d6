defmodule Koma.ModelNode.OsProcessTest do
  use Koma.CoreCase, async: false

  test "a model node computes with as many threads as its entry says", %{dir: dir} do
    start_core(dir, models: [toy(%{threads: 3})])
    {:ok, environment} = File.read("/proc/#{Koma.ModelNode.os_pid("toy-1")}/environ")
    assert "OMP_NUM_THREADS=3" in String.split(environment, "\0")
  end
end
