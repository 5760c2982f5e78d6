defmodule Koma.ReloadTest do
  @moduledoc "New jobs while the only model node of a family is loading again."
  use Koma.EdgeCase

  alias Koma.{Admin, ModelNode}
  alias Koma.ModelNode.Catalogue

  @operator %Caller{roles: [:operator]}
  @json [{"content-type", "application/json"}]
  @request ~s({"task": "toy.run", "params": {"steps": 2}})

  setup %{dir: dir} do
    {:ok, port: start_server(dir, models: [toy(%{options: %{"load_ms" => 400}})])}
  end

  defp phase, do: hd(Catalogue.rows()).phase

  # Submits a job in each phase that the model node is seen in, until it takes jobs again; the phases and the jobs.
  defp submit_while_away(port, seen \\ []) do
    phase = phase()
    seen = if phase in Keyword.keys(seen), do: seen, else: [{phase, submit(port)} | seen]

    if phase == :ready and length(seen) > 1 do
      seen
    else
      Process.sleep(2)
      submit_while_away(port, seen)
    end
  end

  defp submit(port) do
    assert {202, _, _} = answer = http(port, "POST", "/v1/jobs", @json, @request)
    json(answer)["id"]
  end

  for {name, again} <- [
        {"another checkpoint",
         quote(do: Admin.act({:order, "toy-1", {:load, "two"}}, @operator))},
        {"a restart", quote(do: Admin.act({:order, "toy-1", :restart}, @operator))},
        {"a kill", quote(do: kill())}
      ] do
    test "while the only model node loads again after #{name}, jobs are accepted with 202, wait, and are answered",
         %{port: port} do
      unquote(again)
      jobs = submit_while_away(port)
      assert Keyword.has_key?(jobs, :loading)
      for {_phase, id} <- jobs, do: assert(List.last(await_end(id)).type == "completed")
    end
  end

  defp kill do
    pid = ModelNode.os_pid("toy-1")
    {_, 0} = System.cmd("kill", ["-KILL", "#{pid}"])
    eventually(fn -> phase() != :ready end)
  end
end
