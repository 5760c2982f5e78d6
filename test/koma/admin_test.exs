defmodule Koma.AdminTest do
  use Koma.CoreCase

  alias Koma.{Admin, ModelNode, Queue}
  alias Koma.ModelNode.Catalogue
  alias Koma.Store.Jobs

  @operator %Caller{roles: [:operator]}

  describe "a model node" do
    test "that is drained finishes what runs, takes nothing, and takes jobs again when resumed",
         %{dir: dir} do
      start_core(dir)
      running = submit!(%{"steps" => 40, "step_ms" => 10})
      await_step(running["id"])
      assert order("toy-1", :drain) == :ok
      waiting = submit!()
      assert await_end(running["id"]) |> milestones() == ~w(queued started completed)
      await_phase("toy-1", :drained)
      assert Jobs.fetch(waiting["id"]) |> elem(1) |> Map.get(:state) == "queued"
      assert Koma.ready() == :ok
      assert order("toy-1", :resume) == :ok
      assert waiting["id"] |> await_end() |> milestones() |> List.last() == "completed"
    end

    test "that is drained stays so when its process dies", %{dir: dir} do
      start_core(dir)
      assert order("toy-1", :drain) == :ok
      await_phase("toy-1", :drained)
      pid = ModelNode.os_pid("toy-1")
      {_, 0} = System.cmd("kill", ["-KILL", "#{pid}"])

      eventually(fn ->
        row("toy-1").phase == :drained and ModelNode.os_pid("toy-1") not in [nil, pid]
      end)
    end

    test "that is drained leaves its jobs to the others of its family", %{dir: dir} do
      start_core(dir, models: [toy(%{count: 2, slots: 1})])
      assert order("toy-1", :drain) == :ok
      await_phase("toy-1", :drained)
      for _ <- 1..3, do: assert(node_of(submit!()) == "toy-2")
    end

    test "that is restarted lets its jobs finish, then has another process", %{dir: dir} do
      start_core(dir)
      pid = ModelNode.os_pid("toy-1")
      job = submit!(%{"steps" => 40, "step_ms" => 10})
      await_step(job["id"])
      assert order("toy-1", :restart) == :ok
      assert job["id"] |> await_end() |> milestones() == ~w(queued started completed)

      eventually(fn ->
        ModelNode.os_pid("toy-1") not in [nil, pid] and row("toy-1").phase == :ready
      end)

      assert row("toy-1").last_error == nil
      assert node_of(submit!()) == "toy-1"
    end

    test "that is restarted with no patience has its jobs run again, at no cost to them", %{
      dir: dir
    } do
      start_core(dir)
      job = submit!(%{"steps" => 100, "step_ms" => 20, "fail_attempts" => 0})
      await_step(job["id"])
      assert ModelNode.order("toy-1", :restart, 0) == :ok
      events = await_end(job["id"])
      assert milestones(events) == ~w(queued started retrying queued started completed)
      assert Enum.find(events, &(&1.type == "retrying")).data["code"] == "unavailable"
      {:ok, record} = Jobs.fetch(job["id"])
      assert record.losses == 0
    end

    test "loads another checkpoint in the same process, and running jobs come to no harm", %{
      dir: dir
    } do
      start_core(dir, share_results: true)
      os_pid = ModelNode.os_pid("toy-1")
      {:ok, before} = Catalogue.checkpoint("toy")
      job = submit!(%{"steps" => 40, "step_ms" => 10, "seed" => 1})
      await_step(job["id"])
      assert order("toy-1", {:load, "toy-two"}) == :ok
      assert job["id"] |> await_end() |> milestones() == ~w(queued started completed)

      eventually(fn ->
        row("toy-1").phase == :ready and row("toy-1").spec.checkpoint == "toy-two"
      end)

      assert ModelNode.os_pid("toy-1") == os_pid
      {:ok, later} = Catalogue.checkpoint("toy")
      assert later != before
      again = submit!(%{"steps" => 40, "step_ms" => 10, "seed" => 1})
      refute List.last(await_end(again["id"])).data["cached"]
    end

    test "whose new checkpoint cannot be loaded goes back to the one before, and says why", %{
      dir: dir
    } do
      start_core(dir)
      assert order("toy-1", {:load, "/no/such/folder"}) == :ok
      eventually(fn -> row("toy-1").last_error != nil and row("toy-1").phase == :ready end)
      {error, at} = row("toy-1").last_error
      assert error.code == "load_failed"
      assert error.message =~ "/no/such/folder"
      assert is_integer(at)
      assert row("toy-1").spec.checkpoint == "toy"
      assert node_of(submit!()) == "toy-1"
    end

    test "that is unloaded serves nothing until it loads again", %{dir: dir} do
      start_core(dir)
      assert order("toy-1", :unload) == :ok
      await_phase("toy-1", :unloaded)
      request = %{"task" => "toy.run", "params" => %{}}
      assert {:error, %{code: "unavailable"}} = Koma.submit(request, %Caller{})
      assert {:error, %{code: "conflict"}} = order("toy-1", :drain)
      assert order("toy-1", {:load, "toy"}) == :ok
      await_phase("toy-1", :ready)
      assert node_of(submit!()) == "toy-1"
    end

    test "that is about to do one thing does not begin another; that can be taken back", %{
      dir: dir
    } do
      start_core(dir)
      job = submit!(%{"steps" => 1_000, "step_ms" => 20})
      await_step(job["id"])
      assert order("toy-1", {:load, "toy-two"}) == :ok
      assert {:error, %{code: "conflict", value: "draining"}} = order("toy-1", :unload)
      assert order("toy-1", {:load, "toy-two"}) == :ok
      assert order("toy-1", :resume) == :ok
      assert row("toy-1").phase == :ready
      assert node_of(submit!()) == "toy-1"
      assert Admin.act({:cancel, job["id"]}, @operator) == :ok
      assert row("toy-1").spec.checkpoint == "toy"
    end

    test "that there is not is not found", %{dir: dir} do
      start_core(dir)
      assert {:error, %{code: "not_found", bound: ["toy-1"]}} = order("toy-9", :drain)
      assert {:error, %{code: "not_found"}} = Admin.act({:pause, "toy-9"}, @operator)
      assert {:error, %{code: "not_found"}} = Admin.act({:cancel, "job_none"}, @operator)
    end
  end

  describe "a queue" do
    test "that is paused accepts jobs, which wait and know why, and go on when it is resumed", %{
      dir: dir
    } do
      start_core(dir)
      running = submit!(%{"steps" => 30, "step_ms" => 10})
      await_step(running["id"])
      assert Admin.act({:pause, "toy"}, @operator) == :ok
      job = submit!()
      assert %{jobs: 1, paused: true, keys: %{nil => 1}} = Queue.depth("toy", 1_000)
      assert running["id"] |> await_end() |> milestones() == ~w(queued started completed)

      assert [%{type: "queued", data: %{"paused" => true, "wait_ms" => nil}}] =
               Jobs.events(job["id"], 0)

      assert Koma.Metrics.scrape() |> IO.iodata_to_binary() =~
               ~s(koma_queue_paused{family="toy"} 1)

      assert Admin.act({:resume, "toy"}, @operator) == :ok
      events = await_end(job["id"])
      assert [%{data: %{"paused" => true}}, %{type: "queued", data: data} | _] = events
      refute Map.has_key?(data, "paused")
      assert milestones(events) |> List.last() == "completed"
    end

    test "stays paused across a restart", %{dir: dir} do
      start_core(dir)
      assert Admin.act({:pause, "toy"}, @operator) == :ok
      job = submit!()
      stop_core()
      start_core(dir)
      assert Queue.depth("toy", 1_000).paused
      {:ok, %{state: "queued"}} = Jobs.fetch(job["id"])
      assert Admin.act({:resume, "toy"}, @operator) == :ok
      assert job["id"] |> await_end() |> milestones() |> List.last() == "completed"
    end

    test "whose pause cannot be kept is not paused", %{dir: dir} do
      start_core(dir)
      File.write!(Path.join(dir, "paused"), "a file where the folder should be")
      assert {:error, %{code: "storage_full"}} = Admin.act({:pause, "toy"}, @operator)
      refute Queue.depth("toy", 1_000).paused
    end
  end

  test "an operator cancels the job of any key", %{dir: dir} do
    start_core(dir)

    {:ok, job} =
      Koma.submit(
        %{"task" => "toy.run", "params" => %{"steps" => 1_000, "step_ms" => 20}},
        %Caller{key: "a"}
      )

    assert Admin.act({:cancel, job["id"]}, @operator) == :ok
    assert {:ok, %{state: "cancelled"}} = Jobs.fetch(job["id"])
  end

  defp order(node, order), do: Admin.act({:order, node, order}, @operator)
  defp row(name), do: Enum.find(Catalogue.rows(), &(&1.spec.name == name))
  defp await_phase(name, phase), do: eventually(fn -> row(name).phase == phase end)

  defp node_of(job) do
    Enum.find(await_end(job["id"]), &(&1.type == "started")).data["node"]
  end
end
