defmodule Koma.Faults.DiskFullTest do
  use Koma.EdgeCase, async: false

  import Koma.StoreSteps

  alias Koma.Store.Jobs

  @mebibyte 1024 * 1024

  # A file system of its own of eight megabytes; where mounting is not allowed the tests end early.
  setup %{dir: dir} do
    case System.cmd("mount", ~w(-t tmpfs -o size=8m koma #{dir}), stderr_to_stdout: true) do
      {_output, 0} ->
        on_exit(fn -> System.cmd("umount", ["-l", dir]) end)
        {:ok, mounted: true}

      {output, _status} ->
        IO.puts("skipped, no mount: #{output}")
        {:ok, mounted: false}
    end
  end

  test "the disk is full during an upload: it is refused, leaves nothing, and what runs goes on",
       c do
    if c.mounted do
      port = start_server(c.dir)
      running = submit!(%{"steps" => 60, "step_ms" => 20})["id"]
      await_step(running)

      answer = upload(port, :binary.copy("x", 12 * @mebibyte))
      assert {507, _headers, _body} = answer
      assert %{"error" => %{"code" => "storage_full", "message" => message}} = json(answer)
      assert message =~ "full"
      eventually(fn -> File.ls!(Path.join(c.dir, "tmp")) == [] end)

      # There is room again, and nothing of it is left.
      assert {201, _headers, _body} = upload(port, :binary.copy("y", @mebibyte))
      assert %{type: "completed"} = List.last(await_end(running))
      assert [%{id: ^running}] = Jobs.list(fn _record -> true end)
    end
  end

  test "the disk is full: new jobs are refused with a code, running ones end and are told so once there is room, a restart finds all",
       c do
    if c.mounted do
      port = start_server(c.dir)

      running =
        for seed <- 1..2, do: submit!(%{"steps" => 60, "step_ms" => 20, "seed" => seed})["id"]

      Enum.each(running, &await_step/1)
      filler = Path.join(c.dir, "filler")
      fill(filler)

      # The last block of the journal may hold some more.
      {507, _headers, _body} =
        answer = Enum.find_value(1..100, fn _ -> refused(submit_to(port)) end)

      assert json(answer)["error"]["code"] == "storage_full"
      # What cannot be stored is not told, and nobody can read it.
      eventually(fn -> Enum.all?(running, &untold_end?/1) end)
      for id <- running, do: assert({:ok, %{"state" => "running"}} = Koma.job(id, %Caller{}))

      File.rm!(filler)
      stories = Enum.map(running, &await_end/1)
      for events <- stories, do: assert(%{type: "completed"} = List.last(events))
      later = submit!()["id"]
      assert %{type: "completed"} = List.last(await_end(later))
      stop_edge()
      stop_core()
      start_core(c.dir)

      for {id, events} <- Enum.zip(running, stories),
          do: assert(Jobs.events(id, 0) == as_stored(events))
    end
  end

  test "an output that does not fit fails its job with a code; the next one completes", c do
    if c.mounted do
      start_server(c.dir)
      id = submit!(%{"output_bytes" => 12 * @mebibyte})["id"]
      assert %{type: "failed", data: %{"code" => "storage_full"}} = List.last(await_end(id))
      later = submit!(%{"output_bytes" => @mebibyte})["id"]
      assert %{type: "completed"} = List.last(await_end(later))
      eventually(fn -> File.ls!(Path.join(c.dir, "work")) == [] end)
    end
  end

  defp untold_end?(id) do
    {:ok, record} = Jobs.latest(id)
    record.state == "completed"
  end

  defp upload(port, bytes) do
    http(port, "POST", "/v1/artifacts", [{"content-type", "application/octet-stream"}], bytes)
  end

  defp submit_to(port) do
    job = Koma.JSON.encode!(%{"task" => "toy.run", "params" => %{}})
    http(port, "POST", "/v1/jobs", [{"content-type", "application/json"}], job)
  end

  defp refused({202, _headers, _body}), do: nil
  defp refused(answer), do: answer
end
