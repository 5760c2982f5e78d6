defmodule Koma.TelemetryTest do
  use ExUnit.Case, async: false

  alias Koma.Telemetry

  test "handlers get what is executed, until they are detached" do
    start_supervised!(Telemetry)

    handler = fn event, measurements, metadata, pid ->
      send(pid, {event, measurements, metadata})
    end

    assert Telemetry.attach(:a, [[:x, :y]], handler, self()) == :ok
    assert Telemetry.attach(:a, [[:x, :y]], handler, self()) == {:error, :already_exists}
    Telemetry.execute([:x, :y], %{n: 1}, %{m: 2})
    Telemetry.execute([:x, :z], %{n: 1}, %{m: 2})
    assert_receive {[:x, :y], %{n: 1}, %{m: 2}}
    refute_receive {[:x, :z], _, _}, 10
    Telemetry.detach(:a)
    Telemetry.execute([:x, :y], %{n: 1}, %{m: 2})
    refute_receive {[:x, :y], _, _}, 10
  end

  test "a handler that raises is taken away and harms nobody" do
    start_supervised!(Telemetry)
    Telemetry.attach(:bad, [[:x]], fn _, _, _, _ -> raise "no" end, nil)
    Telemetry.attach(:good, [[:x]], fn _, _, _, pid -> send(pid, :told) end, self())
    assert Telemetry.execute([:x], %{}, %{}) == :ok
    assert_receive :told
    Telemetry.execute([:x], %{}, %{})
    assert Telemetry.attach(:bad, [[:x]], fn _, _, _, _ -> :ok end, nil) == :ok
  end

  test "nothing happens while nothing is started" do
    assert Telemetry.execute([:x], %{}, %{}) == :ok
  end
end
