defmodule Koma.Guards.CostOfAJobTest do
  @moduledoc """
  What a job costs, counted: frames, bytes, processes and table entries do not depend on the
  clock, so a change that makes them more is seen at once. Who means to raise a bound says why in
  docs/performance.md.
  """
  use Koma.EdgeCase

  # join of jobs, submit, join of the job; queued, started, progress 0 to 1 and finish, completed.
  @frames 10
  @bytes 3_000

  test "a no-op job over a socket takes at most #{@frames} frames of #{@bytes} bytes in all",
       %{dir: dir} do
    socket = connect(start_server(dir))
    join!(socket, "jobs")
    request = %{"task" => "toy.run", "params" => %{"steps" => 1}}
    %{"status" => "ok", "response" => %{"id" => id}} = ask(socket, "jobs", "submit", request)
    topic = "job:" <> id
    push(socket, ["j", "j", topic, "phx_join", %{}])
    frames = read_until(socket, &match?([_, _, ^topic, "completed", _], &1))

    # Those of the joins of jobs and of the submit came before.
    assert length(frames) + 2 <= @frames
    assert frames |> Enum.map(&byte_size(Koma.JSON.encode!(&1))) |> Enum.sum() <= @bytes
  end

  test "a job that waits is one process, and few table entries; one that has ended is none",
       %{dir: dir} do
    start_core(dir, queue_limit: 1_000)
    blockers = for _ <- 1..2, do: submit!(%{"steps" => 10_000, "step_ms" => 50})["id"]
    Enum.each(blockers, &await_step/1)

    before = count()
    ids = for _ <- 1..50, do: submit!(%{"steps" => 1})["id"]
    waiting = per_job(count(), before, 50)
    assert waiting.processes <= 1

    # The record, its owner, the event `queued`, what its registries and followers know; and a part
    # of the progress that the two running jobs make meanwhile.
    assert waiting.entries <= 10

    for id <- blockers, do: Koma.cancel(id, %Caller{})
    Enum.each(ids, &await_end/1)
    eventually(fn -> count().processes <= before.processes end)
    # The record, its owner, the packed events, its place by age.
    assert per_job(count(), before, 50).entries <= 5
    eventually(fn -> Koma.Scheduler.running() == 0 end)
  end

  test "events and previews are encoded before they are told, alike for all who follow", %{
    dir: dir
  } do
    start_core(dir)
    id = submit!(%{"steps" => 30, "step_ms" => 10, "preview_bytes" => 20_000})["id"]
    parent = self()

    followers =
      for _ <- 1..5 do
        spawn_link(fn ->
          {:ok, _job, _events, _preview} = Koma.subscribe(id, 0, %Caller{})
          send(parent, {:told, self(), told(id, [])})
        end)
      end

    texts = for pid <- followers, do: assert_receive({:told, ^pid, texts}, 20_000) && texts
    previews = for told <- texts, {:preview, step, payload} <- told, do: {step, payload}
    assert previews != []

    for {_step, payloads} <- Enum.group_by(previews, &elem(&1, 0), &elem(&1, 1)) do
      assert payloads |> Enum.uniq() |> length() == 1
    end

    assert Enum.all?(texts, fn told -> Enum.all?(told, &match?({_, _, <<_, _::binary>>}, &1)) end)
  end

  defp told(id, seen) do
    receive do
      {:koma_events, ^id, events} ->
        seen = Enum.reduce(events, seen, &[{:event, &1.type, &1.json} | &2])
        if match?([{:event, "completed", _json} | _], seen), do: seen, else: told(id, seen)

      {:koma_preview, ^id, %{step: step, texts: {_subject, _header, payload}}} ->
        told(id, [{:preview, step, payload} | seen])

      # Told while nobody else followed yet: made by whoever needs it.
      {:koma_preview, ^id, _alone} ->
        told(id, seen)
    end
  end

  defp count do
    sizes = for table <- :ets.all(), size = :ets.info(table, :size), is_integer(size), do: size
    %{processes: length(Process.list()), entries: Enum.sum(sizes)}
  end

  defp per_job(now, before, jobs) do
    Map.new(now, fn {what, count} -> {what, (count - before[what]) / jobs} end)
  end
end
