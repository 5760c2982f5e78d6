defmodule Koma.Storm do
  @moduledoc "Kills model nodes at random while a test runs, and judges the stories that jobs tell."

  alias Koma.{CoreCase, ModelNode}
  alias Koma.Job.{Event, Lifecycle}

  @doc """
  A number of the storms under `make soak`, or the share of it that the environment asks for:
  `KOMA_SOAK_SCALE=0.1` makes them a tenth.
  """
  @spec scaled(pos_integer) :: pos_integer
  def scaled(full) do
    {scale, ""} = "KOMA_SOAK_SCALE" |> System.get_env("1") |> Float.parse()
    max(round(full * scale), 1)
  end

  @doc "Sends SIGKILL to a random ready model node about every `every_ms`, for ever; counts in `kills`."
  @spec kill_for_ever(pos_integer, :counters.counters_ref()) :: no_return
  def kill_for_ever(every_ms, kills) do
    receive do
    after
      div(every_ms, 2) + :rand.uniform(every_ms) -> :ok
    end

    ready = for row <- ModelNode.Catalogue.rows(), row.phase == :ready, do: row.spec.name

    with [_ | _] <- ready,
         os_pid when is_integer(os_pid) <- ModelNode.os_pid(Enum.random(ready)) do
      System.cmd("kill", ["-KILL", "#{os_pid}"], stderr_to_stdout: true)
      :counters.add(kills, 1, 1)
    end

    kill_for_ever(every_ms, kills)
  end

  @doc "What is wrong with the story of a job that must complete: nil if nothing is."
  @spec fault([Event.t()], digest :: String.t()) :: nil | {atom, term}
  def fault(events, digest) do
    numbers = Enum.map(events, & &1.seq)
    ends = for %{type: type} <- events, Lifecycle.terminal?(type), do: type

    cond do
      numbers != Enum.to_list(1..length(events)//1) -> {:numbers, numbers}
      ends != ["completed"] -> {:ends, {ends, List.last(events).data}}
      CoreCase.digest(events) != digest -> {:result, CoreCase.digest(events)}
      true -> nil
    end
  end

  @doc "How often the jobs were run again."
  @spec retries([[Event.t()]]) :: non_neg_integer
  def retries(stories), do: stories |> List.flatten() |> Enum.count(&(&1.type == "retrying"))
end
