defmodule Koma.Job.SubmitTest do
  use Koma.CoreCase, async: false

  alias Koma.Store.{Artifacts, Jobs}

  setup %{dir: dir} do
    start_core(dir, models: [toy(%{slots: 1})], queue_limit: 2)
  end

  describe "a request that cannot be taken" do
    for {request, code, field} <- [
          {%{}, "missing_field", "task"},
          {%{"task" => 7}, "wrong_type", "task"},
          {%{"task" => "toy.rum"}, "unknown_task", "task"},
          {%{"task" => "toy.run", "model" => "amused"}, "unknown_model", "model"},
          {%{"task" => "toy.run", "prio" => 1}, "unknown_field", "prio"},
          {%{"task" => "toy.run", "priority" => "now"}, "invalid_value", "priority"},
          {%{"task" => "toy.run", "params" => []}, "wrong_type", "params"},
          {%{"task" => "toy.run", "params" => %{"stpes" => 1}}, "unknown_field", "stpes"},
          {%{"task" => "toy.run", "params" => %{"steps" => 0}}, "out_of_bounds", "steps"},
          {%{"task" => "toy.run", "params" => %{"steps" => "4"}}, "wrong_type", "steps"},
          {%{"task" => "toy.run", "params" => %{"fail" => "loudly"}}, "invalid_value", "fail"},
          {%{"task" => "toy.run", "deadline_ms" => 0}, "out_of_bounds", "deadline_ms"},
          {%{"task" => "toy.run", "inputs" => %{"fill" => "x"}}, "unknown_field", "inputs.fill"},
          {%{"task" => "toy.run", "inputs" => %{"file" => 1}}, "wrong_type", "inputs.file"},
          {%{"task" => "toy.run", "inputs" => %{"file" => "../etc/passwd"}}, "artifact_not_found",
           "inputs.file"}
        ] do
      test "#{inspect(request)} is #{code}, and nothing is stored" do
        assert {:error, error} = Koma.submit(unquote(Macro.escape(request)), %Caller{})
        assert {error.code, error.field} == {unquote(code), unquote(field)}
        assert Jobs.list(fn _ -> true end) == []
      end
    end

    test "what is not an object is invalid_request" do
      for request <- [nil, 1, "x", []] do
        assert {:error, %{code: "invalid_request"}} = Koma.submit(request, %Caller{})
      end
    end

    test "a megabyte where a number belongs is refused with a short error" do
      request = %{"task" => "toy.run", "params" => %{"steps" => String.duplicate("x", 1_000_000)}}
      assert {:error, %{code: "wrong_type", value: value}} = Koma.submit(request, %Caller{})
      assert String.length(value) < 300
    end
  end

  test "an accepted job tells its place, its filled parameters and its seed" do
    first = submit!(%{"steps" => 100, "step_ms" => 20})
    assert %{"params" => %{"fail" => "none", "seed" => seed}, "seed" => seed} = first
    assert is_integer(seed)
    assert %{"state" => "queued", "position" => 1} = submit!()
    assert %{"state" => "queued", "position" => 2} = submit!()
  end

  test "beyond the bound the answer is overloaded with retry_after_ms, and the bound holds" do
    running = submit!(%{"steps" => 1000, "step_ms" => 10})["id"]
    eventually(fn -> match?({:ok, %{"state" => "running"}}, Koma.job(running, %Caller{})) end)
    waiting = for _ <- 1..2, do: submit!()["id"]
    assert {:error, error} = Koma.submit(%{"task" => "toy.run"}, %Caller{})
    assert %{code: "overloaded", bound: 2, retry_after_ms: retry} = error
    assert retry > 0
    Koma.cancel(hd(waiting), %Caller{})
    assert {:ok, _job} = Koma.submit(%{"task" => "toy.run"}, %Caller{})
  end

  test "interactive jobs go before batch jobs, first come first served within each" do
    running = submit!(%{"steps" => 1000, "step_ms" => 5})["id"]
    eventually(fn -> match?({:ok, %{"state" => "running"}}, Koma.job(running, %Caller{})) end)
    batch = submit!(%{}, %{"priority" => "batch"})
    interactive = submit!()
    assert interactive["position"] == 1
    assert {:ok, %{"position" => 2}} = Koma.job(batch["id"], %Caller{})
  end

  test "files come back as artifacts with the digest of their bytes" do
    events = await_end(submit!(%{"output_bytes" => 100_000})["id"])
    assert %{"outputs" => [%{"artifact" => id, "bytes" => bytes}]} = List.last(events).data
    assert bytes >= 100_000
    {:ok, artifact} = Artifacts.fetch(id)
    assert sha256(artifact.path) == id
  end

  test "an artifact that is an input reaches the model node" do
    {:ok, writer} = Artifacts.open("application/octet-stream")
    {:ok, writer} = Artifacts.write(writer, "some bytes")
    {:ok, %{id: id}, :created} = Artifacts.commit(writer, nil)
    with_file = await_end(submit!(%{"seed" => 1}, %{"inputs" => %{"file" => id}})["id"])
    without = await_end(submit!(%{"seed" => 1})["id"])
    assert digest(with_file) != digest(without)
  end

  test "text streams as tokens and previews arrive, the latest kept for who comes later" do
    id =
      submit!(%{"steps" => 30, "step_ms" => 20, "tokens" => true, "preview_bytes" => 1000})["id"]

    {:ok, _job, _events, _none} = Koma.subscribe(id, 0, %Caller{})
    assert_receive {:koma_preview, ^id, %Koma.Job.Preview{total: 30, data: data}}, 5_000
    assert byte_size(data) >= 1000

    {:ok, _job, _events, %Koma.Job.Preview{}} =
      Task.await(Task.async(fn -> Koma.subscribe(id, 0, %Caller{}) end))

    events = await_end(id)
    tokens = for %{type: "token", data: data} <- events, do: data["index"]
    assert tokens == Enum.to_list(0..(length(tokens) - 1))
    assert tokens != []
  end

  test "a follower who comes back gets exactly what it missed" do
    id = submit!(%{"steps" => 20, "step_ms" => 10})["id"]
    {:ok, _job, early, _preview} = Koma.subscribe(id, 0, %Caller{})
    progress = await_event(id, "progress")
    assert Koma.unsubscribe(id) == :ok
    refute_receive {:koma_events, _, _}, 50
    {:ok, _job, missed, _preview} = Koma.subscribe(id, progress.seq, %Caller{})
    await_event(id, "completed")
    all = Jobs.events(id, 0)
    assert Enum.map(all, & &1.seq) == Enum.to_list(1..length(all))
    assert Enum.take(all, length(early)) == early
    assert missed == Enum.slice(all, progress.seq, length(missed))
    assert {:ok, %{"state" => "completed"}, ^all, nil} = Koma.subscribe(id, 0, %Caller{})
    assert {:ok, _job, [], nil} = Koma.subscribe(id, length(all), %Caller{})
  end

  test "a drain refuses new jobs, finishes the running one and keeps the waiting one stored" do
    running = submit!(%{"steps" => 10, "step_ms" => 20})["id"]
    await_step(running)
    waiting = submit!()["id"]
    assert Koma.drain(10_000) == :ok
    assert {:ok, %{"state" => "completed"}} = Koma.job(running, %Caller{})
    assert {:ok, %{"state" => "queued"}} = Koma.job(waiting, %Caller{})
    assert {:error, %{code: "draining"}} = Koma.submit(%{"task" => "toy.run"}, %Caller{})
  end

  test "a drain ends at its deadline" do
    running = submit!(%{"steps" => 10_000, "step_ms" => 20})["id"]
    await_step(running)
    assert Koma.drain(100) == :ok
    assert {:ok, %{"state" => "running"}} = Koma.job(running, %Caller{})
  end

  defp sha256(path), do: :crypto.hash(:sha256, File.read!(path)) |> Base.encode16(case: :lower)
end
