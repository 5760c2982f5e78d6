defmodule Koma.Provenance do
  @moduledoc """
  Which marks say of an output that a machine made it: the operator's choice, the same for every job.

  The marks themselves are made by the model nodes (`python_nodes/koma/provenance`), which get the settings
  in their environment. `docs/provenance.md` describes them.
  """

  require Logger

  alias Koma.{Caller, Error, JSON, Options}
  alias Koma.Provenance.{Verdict, Verifier}
  alias Koma.Store

  @variable "KOMA_PROVENANCE_SETTINGS"
  @kinds [:invisible, :signed]
  @media ["image/", "video/", "audio/"]

  @doc "The marks that an operator can choose."
  @spec kinds() :: [:invisible | :signed, ...]
  def kinds, do: @kinds

  @doc "The environment of a model node: which marks, and where the keys lie."
  @spec environment(Options.t()) :: [{String.t(), String.t()}]
  def environment(%Options{} = options) do
    settings = %{
      "folder" => options.provenance_dir || Path.join(options.data_dir, "provenance"),
      "invisible" => :invisible in options.marks,
      "signed" => :signed in options.marks,
      "chain" => options.sign_chain,
      "key" => options.sign_key,
      "timestamps" => options.timestamps,
      "prompts" => options.marks_prompts
    }

    [{@variable, JSON.encode!(settings)}]
  end

  @doc """
  Warns where outputs will not bear all marks.

  An operator may want that, and should find it in the log of every start.
  """
  @spec warn(Options.t()) :: :ok
  def warn(%Options{models: []}), do: :ok

  def warn(%Options{} = options) do
    case off(options) do
      [] ->
        :ok

      kinds ->
        Logger.warning(
          "Marks are off: #{Enum.join(kinds, ", ")}. Outputs do not say in that way that a machine made them"
        )
    end
  end

  @doc "The marks that the operator turned off."
  @spec off(Options.t()) :: [:invisible | :signed]
  def off(%Options{marks: marks}), do: @kinds -- marks

  @doc """
  The marks of a family's outputs, as `GET /v1/models` tells them; `nil` for a family without media.

  `tasks` are those of its `ready`.
  """
  @spec told(map, Options.t()) :: %{String.t() => boolean} | nil
  def told(tasks, %Options{marks: marks}) do
    if media?(tasks), do: Map.new(@kinds, &{Atom.to_string(&1), &1 in marks})
  end

  @doc """
  What tells results with other marks apart, for the fingerprints of the cache.

  A result that was made while marks were off must not answer a request once they are on. Empty for a
  family without media.
  """
  @spec policy(map, Options.t()) :: String.t()
  def policy(tasks, %Options{} = options) do
    if media?(tasks) do
      chosen = Enum.filter(@kinds, &(&1 in options.marks))
      "/marks:#{Enum.join(chosen, "+")}#{if options.marks_prompts, do: "+prompts"}"
    else
      ""
    end
  end

  @doc """
  Says what marks the file at `path` bears and what follows; `digest` is the SHA-256 of its bytes.

  Jobs are named only where they are the caller's own.
  """
  @spec verify(Path.t(), String.t(), String.t(), Caller.t()) ::
          {:ok, Verdict.t()} | {:error, Error.t()}
  def verify(path, media_type, digest, %Caller{} = caller) do
    with {:ok, %{"watermark" => watermark} = report} <- Verifier.examine(path, media_type) do
      {:ok, Verdict.of(report, log(digest, watermark["id"], caller))}
    end
  end

  @doc "The caller's own outputs, still kept, whose pixels bear the mark with this id."
  @spec marked(String.t(), Caller.t()) :: [map]
  def marked(id, %Caller{} = caller), do: log(nil, id, caller)["yours"]

  # What was made here and is still kept: the very bytes, or pixels that bear the same id.
  defp log(digest, id, %Caller{key: key}) do
    made =
      for record <- Store.Jobs.list(&made?(&1, digest, id)),
          output <- record.outputs,
          match = match(output, digest, id),
          do: {record, output, match}

    own = for {%{key: ^key} = record, output, match} <- made, do: entry(record, output, match)

    %{
      "exact" => Enum.any?(made, fn {_record, _output, match} -> match == "exact" end),
      "by_mark" => Enum.any?(made, fn {_record, _output, match} -> match == "mark" end),
      "yours" => own
    }
  end

  defp made?(%{outputs: outputs}, digest, id) do
    Enum.any?(outputs || [], &(match(&1, digest, id) != nil))
  end

  defp match(%{"artifact" => digest}, digest, _id), do: "exact"
  defp match(%{"meta" => %{"marks" => %{"id" => id}}}, _digest, id), do: "mark"
  defp match(_output, _digest, _id), do: nil

  defp entry(record, output, match) do
    told = Map.take(output, ["name", "artifact", "url"])
    Map.merge(told, %{"job" => record.id, "match" => match})
  end

  defp media?(tasks) do
    Enum.any?(tasks, fn {_task, %{outputs: outputs}} ->
      Enum.any?(outputs, fn {_name, type} -> String.starts_with?(type, @media) end)
    end)
  end
end
