defmodule Koma.ModelNode.Report do
  @moduledoc "What operators are told of a model node: log lines and telemetry events."

  require Logger

  alias Koma.{Error, LogLine, Telemetry}
  alias Koma.ModelNode.Spec
  alias Koma.Wire.Messages.{Log, Ready, Stats}

  @doc "A line that the model node logged: with the id of the job that it is about, if it is."
  @spec line(Spec.t(), Log.t()) :: :ok
  def line(%Spec{name: name}, %Log{level: level, message: message, fields: fields}) do
    traceback = if is_binary(fields["traceback"]), do: "\n" <> fields["traceback"], else: ""
    # Metadata that is nil is left out, even where the process has some.
    metadata = [job: if(is_binary(fields["job"]), do: LogLine.text(fields["job"], 100))]

    Logger.log(
      String.to_existing_atom(level),
      "#{name}: #{LogLine.text(message)}#{LogLine.lines(traceback)}",
      metadata
    )
  end

  @doc "It can take jobs, so long after the start of its process."
  @spec up(Spec.t(), Ready.t(), non_neg_integer) :: :ok
  def up(%Spec{} = spec, %Ready{} = ready, load_ms) do
    Logger.info(
      "#{spec.name} is ready on #{LogLine.text(ready.device)} (#{LogLine.text(ready.dtype)})"
    )

    Telemetry.execute([:koma, :model_node, :up], %{load_ms: load_ms}, about(spec))
  end

  @doc """
  Its process is gone; it is started again after a pause, or `:never` but by an operator. `jobs` are
  those it worked on.
  """
  @spec down(Spec.t(), Error.t(), pause_ms :: non_neg_integer | :never, jobs :: [String.t()]) ::
          :ok
  def down(%Spec{} = spec, %Error{} = error, pause_ms, jobs) do
    again =
      if pause_ms == :never,
        do: "it is not started again before an operator restarts it",
        else: "again in #{pause_ms} ms"

    Logger.error("#{spec.name} is gone: #{LogLine.text(error.message)} (#{error.code}); #{again}")

    metadata = Map.merge(about(spec), %{code: error.code, reason: error.message})
    Telemetry.execute([:koma, :model_node, :down], %{jobs: length(jobs)}, metadata)
  end

  @doc "A process is started in place of the one that `error` is about."
  @spec restarted(Spec.t(), Error.t()) :: :ok
  def restarted(%Spec{} = spec, %Error{code: code}) do
    metadata = Map.put(about(spec), :code, code)
    Telemetry.execute([:koma, :model_node, :restarted], %{count: 1}, metadata)
  end

  @doc "What it told of itself."
  @spec stats(Spec.t(), Stats.t()) :: :ok
  def stats(%Spec{} = spec, %Stats{} = stats) do
    Telemetry.execute([:koma, :model_node, :stats], Map.from_struct(stats), about(spec))
  end

  defp about(%Spec{name: name, family: family}), do: %{node: name, family: family}
end
