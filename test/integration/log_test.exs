defmodule Koma.LogTest do
  @moduledoc "Log lines carry the id of the job that they are about."
  use Koma.CoreCase

  import ExUnit.CaptureLog
  require Logger

  test "what a model node logs about a job carries its id and the traceback", %{dir: dir} do
    {id, log} =
      with_log(logged(), fn ->
        start_core(dir)
        id = submit!(%{"steps" => 3, "fail" => "step"})["id"]
        await_end(id)
        # It was sent before the end of the job; the logger writes it behind.
        Logger.flush()
        id
      end)

    [line | _] = for line <- lines(log), line =~ "failed in phase", do: line
    assert line =~ "job=#{id} "
    assert line =~ "model_node=toy-1 "
    assert log =~ "Traceback (most recent call last)"
  end

  test "the death of a job's process is logged with its id", %{dir: dir} do
    {id, log} =
      with_log(logged(), fn ->
        start_core(dir)
        id = submit!(%{"steps" => 20, "step_ms" => 20})["id"]
        await_step(id)
        Process.exit(Koma.Job.Processes.whereis(id), :kill)
        await_end(id)
        id
      end)

    assert [line] = for(line <- lines(log), line =~ "the process of #{id} died", do: line)
    assert line =~ "job=#{id} "
  end

  test "code that runs for a job logs with its id; a model node's own lines have none", %{
    dir: dir
  } do
    {id, log} =
      with_log(logged(), fn ->
        start_core(dir)
        handler = fn _, _, about, nil -> Logger.warning("a line of #{about.id}") end
        :ok = Koma.Telemetry.attach("log", [[:koma, :job, :finished]], handler, nil)
        id = submit!(%{"steps" => 2})["id"]
        await_end(id)
        os_pid = Koma.ModelNode.os_pid("toy-1")
        System.cmd("kill", ["-KILL", "#{os_pid}"])
        eventually(fn -> Koma.ModelNode.os_pid("toy-1") not in [nil, os_pid] end)
        id
      end)

    assert [line] = for(line <- lines(log), line =~ "a line of #{id}", do: line)
    assert line =~ "job=#{id} "
    assert [gone] = for(line <- lines(log), line =~ "toy-1 is gone", do: line)
    assert gone =~ "model_node=toy-1 "
    refute gone =~ "job="
  end

  test "names, messages and lines that look like lines of the log stay within theirs", %{dir: dir} do
    loud = [Koma.ModelNode.Output, Koma.ModelNode.Report, Koma.Admin]
    Enum.each(loud, &Logger.put_module_level(&1, :info))
    on_exit(fn -> Enum.each(loud, &Logger.delete_module_level/1) end)
    forged = "x\r\nFORGED [error] all is lost\e[2J\u2028FORGED"

    log =
      capture_log(logged(), fn ->
        start_core(dir, node_command: scripted("hostile"))
        operator = %Caller{roles: [:operator]}
        _not_found = Koma.Admin.act({:cancel, forged}, operator)
        _not_found = Koma.Admin.act({:order, forged, {:load, forged}}, operator)
        _not_found = Koma.Admin.act({:pause, forged}, operator)
        os_pid = Koma.ModelNode.os_pid("toy-1")
        submit!()
        eventually(fn -> Koma.ModelNode.os_pid("toy-1") not in [nil, os_pid] end)
        Logger.flush()
      end)

    lines = String.split(log, "\n", trim: true)
    assert length(for line <- lines, line =~ "FORGED", do: line) >= 6
    refute Enum.any?(lines, &String.starts_with?(&1, "FORGED"))
    refute log =~ ~r/[\r\e\x{2028}\x{202e}]/u
    assert String.valid?(log)
  end

  # Levels and metadata are those of config/config.exs for the console.
  defp logged, do: [format: "$metadata[$level] $message\n", metadata: [:model_node, :job]]

  defp lines(log), do: String.split(log, "\n", trim: true)
end
