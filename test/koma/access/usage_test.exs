defmodule Koma.Access.UsageTest do
  # The process and its tables have names.
  use ExUnit.Case, async: false

  alias Koma.Access.Usage
  alias Koma.Options

  setup do
    dir = Koma.TestFolder.new("usage")
    start(dir)
    {:ok, dir: dir}
  end

  test "of requests at the same moment no more than the burst get through" do
    answers =
      1..50
      |> Task.async_stream(fn _ -> Usage.request("a", 1, 20) end, max_concurrency: 50)
      |> Enum.map(fn {:ok, answer} -> answer end)

    {passed, refused} = Enum.split_with(answers, &(&1 == :ok))
    # A token a second: one or two more where the machine is slow.
    assert length(passed) in 20..22
    for {:wait, ms} <- refused, do: assert(ms in 1..1_000)
    assert Usage.request("b", 1, 20) == :ok
  end

  test "what a process holds is counted up to the limit, and given back when it dies" do
    test = self()

    holder =
      spawn(fn ->
        for _ <- 1..3, do: send(test, Usage.take(self(), "a", :sockets, 1, 2))
        receive do: (:stop -> :ok)
      end)

    assert_receive :ok
    assert_receive :ok
    assert_receive :full
    assert Usage.take(self(), "a", :sockets, 1, 2) == :full
    assert Usage.take(self(), "b", :sockets, 1, 2) == :ok
    assert Usage.take(self(), "a", :topics, 5, 5) == :ok

    monitor = Process.monitor(holder)
    Process.exit(holder, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^holder, :killed}
    # Its own monitor is told at about the same time as ours.
    Koma.CoreCase.eventually(fn -> Usage.held("a", :sockets) == 0 end)
    assert Usage.held("a", :topics) == 5
  end

  test "nobody gives back more than they took" do
    assert Usage.take(self(), "a", :uploads, 2, nil) == :ok
    for _ <- 1..5, do: Usage.give(self(), "a", :uploads, 1)
    assert Usage.held("a", :uploads) == 0
    assert %{monitors: monitors} = :sys.get_state(Usage)
    assert monitors == %{}
  end

  test "every holder of a socket is told, and nobody else" do
    assert Usage.take(self(), "a", :uploads, 1, nil) == :ok
    Usage.tell_sockets(:not_me)
    assert Usage.take(self(), "a", :sockets, 1, nil) == :ok
    Usage.tell_sockets(:me)
    assert_receive :me
    refute_received :not_me
  end

  test "a quota is used up exactly, and what was refused does not count" do
    assert Usage.spend("a", :bytes_per_day, 70, 100) == :ok
    assert Usage.spend("a", :bytes_per_day, 31, 100) == :used_up
    assert Usage.spend("a", :bytes_per_day, 30, 100) == :ok
    assert Usage.spend("a", :bytes_per_day, 1, 100) == :used_up
    assert Usage.spend("a", :bytes_per_day, 1_000, nil) == :ok
    assert Usage.refund("a", :bytes_per_day, 1_000) == :ok
    assert Usage.spent("a", :bytes_per_day) == 100
    assert Usage.spent("a", :jobs_per_day) == 0
    assert Usage.until_tomorrow_ms() in 1..86_400_000
  end

  test "what was used up today is known after a restart", %{dir: dir} do
    assert Usage.spend("a", :jobs_per_day, 7, nil) == :ok
    stop_supervised!(Usage)
    start(dir)
    assert Usage.spent("a", :jobs_per_day) == 7
  end

  for {name, text} <- [
        spoilt: "{\"day\": ",
        foreign: "[1]",
        old: ~s({"day": 1, "used": {"a": {"jobs_per_day": 7}}})
      ] do
    test "a file that is #{name} begins the day anew, and stops nothing", %{dir: dir} do
      stop_supervised!(Usage)
      File.mkdir_p!(Path.join(dir, "access"))
      File.write!(Path.join(dir, "access/usage.json"), unquote(text))
      start(dir)
      assert Usage.spent("a", :jobs_per_day) == 0
    end
  end

  defp start(dir), do: start_supervised!({Usage, Options.new!(data_dir: dir)})
end
