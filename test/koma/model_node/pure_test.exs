defmodule Koma.ModelNode.PureTest do
  use ExUnit.Case, async: true

  import Koma.Properties
  alias Koma.ModelNode.{Backoff, Handshake, Health, Spec}
  alias Koma.Wire.Messages.{Load, Ready}

  @spec_toy %Spec{name: "toy-1", family: "toy", checkpoint: "toy", slots: 3}

  test "pauses grow to their maximum and never beyond, whatever the jitter" do
    holds({integer(1, 100), integer(0, 100)}, fn {failures, jitter} ->
      pause = Backoff.delay_ms(failures, 200, 30_000, jitter / 100)
      full = min(200 * Integer.pow(2, failures - 1), 30_000)
      pause <= full and pause >= div(full * 3, 4) - 1
    end)
  end

  test "the handshake: our version and a known family lead to load, load to ready" do
    assert {:load, %Load{slots: 3} = load} = Handshake.greeted(ready(), @spec_toy)
    assert Handshake.loaded(%{ready() | id: load.id, family: "toy"}, @spec_toy) == :ok

    assert {:refuse, "protocol_error", _} =
             Handshake.loaded(%{ready() | id: "other", family: "toy"}, @spec_toy)

    assert {:refuse, "protocol_mismatch", _} =
             Handshake.greeted(%{ready() | protocol: 2}, @spec_toy)
  end

  test "a family that is not installed is told with those that are, the nearest one, and how to install" do
    greeted = fn families -> Handshake.greeted(%{ready() | families: families}, @spec_toy) end
    assert {:give_up, "load_failed", reason} = greeted.(["amused", "toys"])
    assert reason =~ ~s(no family "toy" is installed, only amused, toys; did you mean toys?)
    assert {:give_up, "load_failed", reason} = greeted.(["amused"])
    assert reason =~ "must be installed with pip"
  end

  test "a model node hangs when pongs stay out, or an operation is silent for too long; not before" do
    health = Health.new(1_000)
    assert Health.check(health, 500, 1_500) == :ok
    assert {:hung, _} = Health.check(health, 500, 1_501)
    {1, health} = Health.ping(health)
    assert {2, _health} = Health.ping(health)
    assert {:ok, health} = Health.pong(health, 300, 300, 2_000)
    assert Health.check(health, 500, 2_500) == :ok
    assert {:hung, reason} = Health.pong(health, 301, 300, 2_000)
    assert reason =~ "301 ms"
  end

  defp ready do
    %Ready{
      protocol: 1,
      pid: 1,
      families: ["toy"],
      tasks: %{},
      device: "cpu",
      dtype: "float32",
      slots: 3,
      memory_bytes: 0
    }
  end
end
