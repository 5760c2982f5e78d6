defmodule Koma.Faults.ClusterTest do
  use Koma.ClusterCase, async: false

  alias Koma.Storm

  @moduletag timeout: 180_000

  describe "a gateway without model nodes and a worker:" do
    test "jobs run on the worker; files travel both ways and are whole", context do
      names = names(context, ~w(g w))
      gateway = start_peer(context, names, 0, roles: [:gateway], models: [])
      worker = start_peer(context, names, 1, roles: [:worker])
      await_cluster([gateway, worker], 1)
      assert call(gateway, Koma, :ready, []) == :ok

      bytes = :crypto.strong_rand_bytes(3_000_000)
      input = store!(gateway, bytes)
      params = %{"steps" => 3, "seed" => 7, "output_bytes" => 2_000_000, "tokens" => true}
      job = submit!(gateway, params, %{"inputs" => %{"file" => input}})
      events = await_end(gateway, job["id"])

      assert %{type: "completed", data: %{"outputs" => [output]}} = List.last(events)
      assert ran_on(events) == Atom.to_string(Enum.at(names, 1))
      assert Enum.map(events, & &1.seq) == Enum.to_list(1..length(events))
      assert Enum.any?(events, &(&1.type == "token"))
      {:ok, artifact} = call(gateway, Koma.Store.Artifacts, :fetch, [output["artifact"]])
      assert artifact.bytes >= 2_000_000
      assert sha256(File.read!(artifact.path)) == output["artifact"]
      # Nothing is left behind where it ran.
      eventually(fn -> call(worker, File, :ls!, [Path.join([context.dir, "1", "work"])]) == [] end)

      eventually(fn -> call(worker, Koma.Scheduler, :running, []) == 0 end)
      eventually(fn -> call(gateway, Koma.Scheduler, :running, []) == 0 end)
    end
  end

  describe "three peers, two of them gateways:" do
    test "work spreads, and what is asked of the other gateway reaches the owner", context do
      [a, b, c] = three(context)
      ids = for seed <- 1..8, do: submit!(a, long(seed))["id"]
      hosts = fn -> for p <- [a, b, c], do: held(p) end
      eventually(fn -> Enum.all?(hosts.(), &(&1 > 0)) end)

      for id <- ids do
        {:ok, %{"id" => ^id}} = call(b, Koma, :job, [id, %Caller{}])
      end

      listed = for job <- call(b, Koma, :jobs, [%Caller{}, %{}]), do: job["id"]
      assert Enum.sort(listed) == Enum.sort(ids)
      assert call(b, Koma, :cancel, [hd(ids), %Caller{}]) == :ok
      assert %{type: "cancelled"} = List.last(await_end(b, hd(ids)))

      for id <- tl(ids) do
        events = await_end(b, id)
        assert bare(events) == bare(await_end(a, id))
        assert Storm.fault(events, digest(events)) == nil
      end

      unknown = String.replace(hd(ids), ~r/.{4}$/, "zzzz")
      assert {:error, %{code: "not_found"}} = call(b, Koma, :job, [unknown, %Caller{}])
      assert {:error, %{code: "not_found"}} = call(b, Koma, :subscribe, [unknown, 0, %Caller{}])

      # Nor does anybody wait for ever who comes with the number of an event that never was.
      live = submit!(a, long(9))["id"]
      refused = call(b, Koma.Follower, :start, [{:job, live}, 1_000_000, %Caller{}])
      assert {:error, %{code: "out_of_bounds", field: "after", value: 1_000_000}} = refused
      {200, _headers, body} = stream(b, live, 1_000_000)
      assert body =~ "event: completed"

      # Another key does not see it, on no gateway.
      assert {:error, %{code: "not_found"}} =
               call(b, Koma, :job, [hd(ids), %Caller{key: "other"}])
    end

    defp stream(peer, id, number) do
      {:ok, _apps} = Application.ensure_all_started(:gun)
      port = call(peer, Koma.HTTP.Listener, :port, [])
      path = "/v1/jobs/#{id}/events"
      Koma.EdgeCase.http(port, "GET", path, [{"last-event-id", "#{number}"}])
    end

    test "a worker that is killed: its jobs run again elsewhere and are answered once, as undisturbed",
         context do
      [a, b, c] = three(context)

      undisturbed =
        for seed <- 1..6,
            into: %{},
            do: {seed, digest(await_end(b, submit!(b, long(seed))["id"]))}

      ids = for seed <- 1..6, do: {seed, submit!(a, long(seed))["id"]}
      eventually(fn -> held(c) > 0 end)
      kill(c)
      stories = for {seed, id} <- ids, do: {seed, await_end(a, id)}
      for {seed, events} <- stories, do: assert(Storm.fault(events, undisturbed[seed]) == nil)

      lost =
        for {_seed, events} <- stories,
            %{type: "retrying"} = event <- events,
            do: event.data["code"]

      assert lost != [] and Enum.uniq(lost) == ["peer_lost"]
    end

    test "a job under which peers die has the next one to itself, then fails as poison_job; those beside it complete",
         context do
      names = names(context, ~w(g w))
      g = start_peer(context, names, 0, roles: [:gateway], models: [], max_attempts: 2)
      worker = [roles: [:worker], models: [toy(%{count: 2, slots: 2})]]
      w = start_peer(context, names, 1, worker)
      await_cluster([g, w], 2)
      poison = submit!(g, long(1, 1_000))["id"]
      innocent = for seed <- 2..4, do: submit!(g, long(seed, 50))["id"]

      for attempt <- 1..2, reduce: w do
        w ->
          call(g, Koma.CoreCase, :await_attempt, [poison, attempt])
          kill(w)
          restart(w, worker)
      end

      events = await_end(g, poison)
      assert milestones(events) == ~w(queued started retrying queued started failed)
      assert %{"code" => "poison_job", "message" => message} = List.last(events).data
      assert message =~ "peer"
      [_first, %{at: from}] = Enum.filter(events, &(&1.type == "started"))

      for story <- for(id <- innocent, do: await_end(g, id)) do
        assert Storm.fault(story, digest(story)) == nil
        # Nobody was beside it.
        assert Enum.filter(story, &(&1.at in from..List.last(events).at and runs?(&1))) == []
      end
    end

    test "a worker that falls silent is lost with its ticks: its jobs run again elsewhere; once it goes on it is back, and what it still had is dropped",
         context do
      [a, b, c] = three(context)
      ids = for seed <- 1..6, do: submit!(a, long(seed, 60))["id"]
      eventually(fn -> held(c) > 0 end)

      # Its kernel keeps the connections and acknowledges what is sent: as with a cable that was pulled, nothing closes.
      signal(c, "STOP")
      stories = for id <- ids, do: await_end(a, id)
      assert Enum.any?(stories, &("retrying" in milestones(&1)))
      signal(c, "CONT")
      await_cluster([a, b, c], 3)
      eventually(fn -> held(c) == 0 end)

      for {id, events} <- Enum.zip(ids, stories) do
        assert Storm.fault(events, digest(events)) == nil
        assert bare(events) == bare(await_end(b, id))
      end
    end

    test "a model node that is killed while it writes for another peer leaves nothing behind",
         context do
      names = names(context, ~w(g w))
      g = start_peer(context, names, 0, roles: [:gateway], models: [])
      w = start_peer(context, names, 1, roles: [:worker], models: [toy(%{slots: 1})])
      await_cluster([g, w], 1)
      id = submit!(g, long(1, 60))["id"]
      await_step(g, id)

      [{_id, visit, _type, _modules}] =
        call(w, DynamicSupervisor, :which_children, [Koma.Remote.Visits])

      # As far as it would be when it is killed.
      folder = call(w, :sys, :get_state, [visit]).submit.output_dir
      File.mkdir_p!(folder)
      File.write!(Path.join(folder, "half"), "a result")
      signal(%{os_pid: call(w, Koma.ModelNode, :os_pid, ["toy-1"])}, "KILL")
      assert %{type: "completed"} = List.last(await_end(g, id))
      eventually(fn -> File.ls!(Path.dirname(folder)) == [] end)
    end

    test "a worker that is stopped in an orderly way finishes what it runs", context do
      [a, _b, c] = three(context)
      ids = for seed <- 1..6, do: submit!(a, long(seed))["id"]
      eventually(fn -> held(c) > 0 end)
      stop(c)

      for id <- ids do
        events = await_end(a, id)
        assert milestones(events) |> Enum.dedup() == ~w(queued started completed)
      end
    end

    test "while a peer is away nobody knows that a task is unknown: jobs are unavailable, a story waits; with all peers there they are told",
         context do
      names = names(context, ~w(g w))
      g = start_peer(context, names, 0, models: [toy(%{slots: 1})])
      await_cluster([g], 1)
      image = %{"task" => "image.generate", "params" => %{"prompt" => "a cup"}}
      assert {:error, %{code: "unavailable"}} = call(g, Koma, :submit, [image, %Caller{}])
      stages = %{"stages" => [Map.put(image, "name", "image")], "on_disconnect" => "keep"}
      {:ok, %{"id" => id}} = call(g, Koma.Pipeline, :submit, [stages, %Caller{}])
      story = Task.async(fn -> call(g, Koma.CoreCase, :await_pipeline, [id]) end)
      assert {:ok, %{"state" => "running"}} = call(g, Koma.Pipeline, :get, [id, %Caller{}])
      w = start_peer(context, names, 1, roles: [:worker])
      await_cluster([g, w], 2)
      assert {:error, %{code: "unknown_task"}} = call(g, Koma, :submit, [image, %Caller{}])
      events = Task.await(story, 60_000)
      assert %{type: "failed", data: %{"code" => "unknown_task"}} = List.last(events)

      assert {:error, %{code: "unknown_task"}} =
               call(g, Koma.Pipeline, :submit, [stages, %Caller{}])
    end

    test "a worker that joins late gets work", context do
      names = names(context, ~w(a b c))
      a = start_peer(context, names, 0, models: [toy(%{slots: 1})])
      await_cluster([a], 1)
      ids = for seed <- 1..10, do: submit!(a, long(seed))["id"]
      _c = start_peer(context, names, 2, roles: [:worker])
      hosts = for id <- ids, do: ran_on(await_end(a, id))
      assert Enum.any?(hosts, &(&1 == Atom.to_string(Enum.at(names, 2))))
    end

    test "a gateway that is killed: its followers elsewhere hear the rest once it is back",
         context do
      [a, b, _c] = three(context)
      ids = for seed <- 1..6, do: submit!(a, long(seed))["id"]
      followers = for id <- ids, do: Task.async(fn -> await_end(b, id) end)
      for id <- ids, do: await_step(a, id)
      kill(a)
      assert {:error, %{code: "unavailable"}} = call(b, Koma, :job, [hd(ids), %Caller{}])
      a = restart(a)

      for {id, follower} <- Enum.zip(ids, followers) do
        events = Task.await(follower, 60_000)
        assert Storm.fault(events, digest(events)) == nil
        assert bare(events) == bare(await_end(a, id))
      end
    end

    test "cut off from each other and healed: what ran on both sides is answered once, and the late result is dropped",
         context do
      names = names(context, ~w(g w))
      g = start_peer(context, names, 0, models: [toy(%{slots: 1})])
      w = start_peer(context, names, 1, roles: [:worker], models: [toy(%{slots: 4})])
      await_cluster([g, w], 2)
      ids = for seed <- 1..5, do: submit!(g, long(seed, 60))["id"]
      eventually(fn -> held(w) > 0 end)
      cut(g, w)
      eventually(fn -> call(g, Koma.Cluster, :peers, []) == [] end)
      eventually(fn -> call(w, Koma.Scheduler, :running, []) == 0 end)
      heal(g, w)
      await_cluster([g, w], 2)

      for id <- ids do
        events = await_end(g, id)
        assert Storm.fault(events, digest(events)) == nil
      end

      eventually(fn -> call(g, Koma.Scheduler, :running, []) == 0 end)
    end

    test "a result of an earlier attempt that comes late is dropped", context do
      [a, b, _c] = three(context)
      id = submit!(a, long(1, 60))["id"]
      await_step(a, id)
      pid = call(a, Koma.Job.Processes, :whereis, [id])
      late = %Koma.Wire.Messages.Done{id: id, outputs: [], seed: 1, timings: %{}}

      for attempt <- [0, 2],
          do: tell(b, pid, {:model_node, id, attempt, late})

      events = await_end(a, id)
      assert [_result] = List.last(events).data["outputs"]
    end
  end

  describe "artifacts:" do
    test "an input is fetched from whichever peer has it; without any the job fails and says so",
         context do
      names = names(context, ~w(a b w))
      [a, b] = for n <- 0..1, do: start_peer(context, names, n, roles: [:gateway], models: [])
      w = start_peer(context, names, 2, roles: [:worker], models: [toy(%{slots: 1})])
      await_cluster([a, b, w], 1)
      input = store!(a, :crypto.strong_rand_bytes(700_000))
      # Uploaded on one gateway, named on another.
      blocker = submit!(b, %{"steps" => 10_000, "step_ms" => 20})["id"]
      request = %{"inputs" => %{"file" => input}}
      waits = submit!(b, %{"steps" => 1}, request)["id"]
      remove(b, input)

      fails =
        submit!(b, %{"steps" => 1}, %{"inputs" => %{"file" => store!(b, "gone soon")}})["id"]

      remove(b, sha256("gone soon"))
      call(b, Koma, :cancel, [blocker, %Caller{}])
      assert %{type: "completed"} = List.last(await_end(b, waits))
      assert %{type: "failed", data: error} = List.last(await_end(b, fails))
      assert %{"code" => "artifact_not_found", "field" => "inputs.file"} = error
    end
  end

  describe "who may join:" do
    test "a peer without a cookie does not start, nor one with a short one", context do
      [name | _] = names = names(context, ~w(a))
      assert {:error, error} = boot_peer(context, names, 0, cookie: nil)
      assert Exception.message(error) =~ "KOMA_COOKIE"
      assert Exception.message(error) =~ to_string(name)
      assert {:error, error} = boot_peer(context, names, 0, cookie: "short")
      assert Exception.message(error) =~ "5 characters"
    end

    test "a peer with another cookie stays outside, and the log says so", context do
      names = names(context, ~w(a b))
      a = start_peer(context, names, 0)
      b = start_peer(context, names, 1, cookie: "another-secret-of-the-tests")
      eventually(fn -> log(a) =~ "cannot be connected" and log(a) =~ "cookie" end)
      eventually(fn -> log(b) =~ "cannot be connected" end)
      assert call(a, Koma.Cluster, :peers, []) == []
      refute log(a) =~ "a-secret-of-the-tests-only"
    end

    test "a peer of another version of the protocol gets no jobs, and the log says why",
         context do
      names = names(context, ~w(a b))
      a = start_peer(context, names, 0)
      hello = %{protocol: 99, version: "9.9.9", roles: [:worker]}
      peers = call(a, Process, :whereis, [Koma.Cluster.Peers])
      tell(a, peers, {:hello, peers, hello, %{}, %{}})
      eventually(fn -> log(a) =~ "speaks version 99" end)
      assert call(a, Koma.Cluster, :peers, []) == []
    end
  end

  defp runs?(%{type: type}), do: type in ~w(started progress)

  defp signal(%{os_pid: os_pid}, name) do
    {_output, 0} = System.cmd("kill", ["-" <> name, "#{os_pid}"])
  end

  defp held(peer), do: call(peer, Koma.Scheduler, :held_here, [])
  defp tell(peer, pid, message), do: call(peer, :erlang, :send, [pid, message])

  # Those that were told are encoded already, those that were read are not.
  defp bare(events), do: Enum.map(events, &{&1.seq, &1.type, &1.at, &1.data})

  defp three(context) do
    names = names(context, ~w(a b c))
    a = start_peer(context, names, 0, models: [toy(%{slots: 2})])
    b = start_peer(context, names, 1, models: [toy(%{slots: 2})])
    c = start_peer(context, names, 2, roles: [:worker], models: [toy(%{slots: 2})])
    await_cluster([a, b, c], 3)
    [a, b, c]
  end

  defp long(seed, steps \\ 30), do: %{"steps" => steps, "step_ms" => 40, "seed" => seed}

  defp remove(peer, id) do
    {:ok, artifact} = call(peer, Koma.Store.Artifacts, :fetch, [id])
    File.rm!(artifact.path)
  end

  defp sha256(bytes), do: :crypto.hash(:sha256, bytes) |> Base.encode16(case: :lower)
end
