defmodule Koma.Faults.BrokenWireTest do
  use Koma.CoreCase, async: false

  import ExUnit.CaptureLog
  alias Koma.ModelNode.Catalogue

  for {behaviour, reason} <- [
        {"garbage", "type byte 0xC1"},
        {"oversize", "a frame of 2147483647 bytes is longer than 8388608"},
        {"not_a_map", "a frame that is not a map"},
        {"unknown_type", "unknown type \"sing\""},
        {"wrong_type", "field seq is not :int: \"one\""},
        {"truncated", "exit status 0"}
      ] do
    test "#{behaviour}: one log line with the reason, a new process, an answered job", %{dir: dir} do
      start_core(dir, node_command: scripted(unquote(behaviour)), max_attempts: 2)
      first = Koma.ModelNode.os_pid("toy-1")

      log =
        capture_log(fn ->
          events = await_end(submit!()["id"])
          assert milestones(events) == ~w(queued started retrying queued started failed)
          assert %{"code" => "poison_job", "message" => message} = List.last(events).data
          assert message =~ unquote(reason)
        end)

      assert log =~ unquote(reason)
      refute alive?(first)
      await_ready()
      assert Koma.ModelNode.os_pid("toy-1") != first
    end
  end

  test "frames that come byte by byte are read", %{dir: dir} do
    start_core(dir, node_command: scripted("dribble"))
    assert %{type: "completed"} = submit!()["id"] |> await_end() |> List.last()
  end

  for {behaviour, code, message} <- [
        {"mismatch", "protocol_mismatch", "version 99"},
        {"load_failed", "load_failed", "no such file"},
        {"silent", "node_hung", "no answer in phase hello"},
        {"silent_load", "node_hung", "no answer to pings"}
      ] do
    test "#{behaviour}: models and readiness say #{code}, submits are refused, it is tried again",
         %{dir: dir} do
      start_core(dir,
        node_command: scripted(unquote(behaviour)),
        hello_timeout_ms: 1_000,
        ping_interval_ms: 100,
        wait: false
      )

      eventually(fn -> match?([%{failures: n}] when n >= 2, Catalogue.rows()) end)
      assert {:error, [%{"node" => "toy-1", "error" => error}]} = Koma.ready()
      assert %{"code" => unquote(code), "message" => message} = error
      assert message =~ unquote(message)

      assert [%{"family" => "toy", "nodes" => 0, "error" => %{"code" => unquote(code)}}] =
               Koma.models()

      assert {:error, %{code: "unavailable"}} = Koma.submit(%{"task" => "toy.run"}, %Caller{})
    end
  end

  test "loading may take longer than an answer, until its own time is over", %{dir: dir} do
    options = [
      node_command: scripted("slow_load"),
      hello_timeout_ms: 1_000,
      ping_interval_ms: 100
    ]

    start_core(dir, options)
    assert %{type: "completed"} = submit!()["id"] |> await_end() |> List.last()
    stop_core()
    start_core(dir, [load_timeout_ms: 500, wait: false] ++ options)

    eventually(fn ->
      match?({:error, [%{"error" => %{"message" => "no answer in phase loading"}}]}, Koma.ready())
    end)
  end

  test "a command that does not exist is a model node that keeps failing, nothing more", %{
    dir: dir
  } do
    start_core(dir, node_command: ["/no/such/python"], wait: false)
    eventually(fn -> match?([%{failures: n}] when n >= 2, Catalogue.rows()) end)
    assert {:error, %{code: "unavailable"}} = Koma.submit(%{"task" => "toy.run"}, %Caller{})
  end
end
