defmodule Koma.TelemetryTest do
  use ExUnit.Case, async: false

  alias Koma.Telemetry

  @opened [:koma, :socket, :opened]
  @refused [:koma, :queue, :refused]

  test "handlers get what is executed, until they are detached" do
    start_supervised!(Telemetry)

    handler = fn event, measurements, metadata, pid ->
      send(pid, {event, measurements, metadata})
    end

    assert Telemetry.attach(:a, [@refused], handler, self()) == :ok
    assert Telemetry.attach(:a, [@refused], handler, self()) == {:error, :already_exists}
    refused()
    opened()
    assert_receive {@refused, %{count: 1}, %{model: "toy", code: "overloaded"}}
    refute_receive {@opened, _, _}, 10
    Telemetry.detach(:a)
    refused()
    refute_receive {@refused, _, _}, 10
  end

  test "a handler that raises is taken away and harms nobody" do
    start_supervised!(Telemetry)
    Telemetry.attach(:bad, [@opened], fn _, _, _, _ -> raise "no" end, nil)
    Telemetry.attach(:good, [@opened], fn _, _, _, pid -> send(pid, :told) end, self())
    ExUnit.CaptureLog.capture_log(fn -> assert opened() == :ok end)
    assert_receive :told
    opened()
    assert Telemetry.attach(:bad, [@opened], fn _, _, _, _ -> :ok end, nil) == :ok
  end

  test "handlers given at the start are there again after a crash" do
    test = self()
    handler = fn _, _, _, nil -> send(test, :told) end
    pid = start_supervised!({Telemetry, [{:kept, [@opened], handler, nil}]})
    ref = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^ref, :process, _, :killed}
    Koma.CoreCase.eventually(fn -> GenServer.whereis(Telemetry) not in [nil, pid] end)
    opened()
    assert_receive :told
  end

  test "nothing happens while nothing is started" do
    assert opened() == :ok
  end

  test "in tests an event that is not listed, or has other keys, is an error" do
    assert_raise ArgumentError, ~r/is missing in/, fn -> Telemetry.execute([:x], %{}, %{}) end

    assert_raise ArgumentError, ~r/measurements of/, fn ->
      Telemetry.execute(@opened, %{n: 1}, %{})
    end

    assert_raise ArgumentError, ~r/metadata of/, fn ->
      Telemetry.execute(@opened, %{count: 1}, %{id: "a"})
    end
  end

  defp opened, do: Telemetry.execute(@opened, %{count: 1}, %{})

  defp refused do
    Telemetry.execute(@refused, %{count: 1}, %{model: "toy", code: "overloaded"})
  end
end
