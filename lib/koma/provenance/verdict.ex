defmodule Koma.Provenance.Verdict do
  @moduledoc """
  From what each layer says of a file to one verdict. Pure.

  | verdict | when |
  |---|---|
  | `tampered` | the signed statement does not fit the file, or was changed |
  | `made_here` | this server signed it, or its invisible mark is this server's, or these very bytes were made here |
  | `declares_ai` | a statement, signed by somebody else, says that a model made it |
  | `unknown` | none of these: that does not mean that no model made it |
  """

  @type t :: %{String.t() => term}

  @doc """
  The answer of `POST /v1/verify`, of the layers `c2pa` and `watermark` of the detector and of the `log`.
  """
  @spec of(report :: map, log :: map) :: t
  def of(%{"c2pa" => c2pa, "watermark" => watermark} = report, log) do
    verdict = verdict(c2pa, watermark, log)

    report
    |> Map.take(["c2pa", "watermark"])
    |> Map.merge(%{
      "log" => log,
      "verdict" => verdict,
      "meaning" => meaning(verdict, watermark)
    })
  end

  defp verdict(%{"tampered" => true}, _watermark, _log), do: "tampered"
  defp verdict(%{"made_here" => true}, _watermark, _log), do: "made_here"
  defp verdict(_c2pa, %{"found" => true}, _log), do: "made_here"
  defp verdict(_c2pa, _watermark, %{"exact" => true}), do: "made_here"
  defp verdict(%{"generated" => true}, _watermark, _log), do: "declares_ai"
  defp verdict(_c2pa, _watermark, _log), do: "unknown"

  defp meaning("tampered", watermark) do
    "The signed statement does not fit the file: one of them was changed after signing." <>
      if watermark["found"], do: " The invisible mark of this server is in the picture.", else: ""
  end

  defp meaning("made_here", _watermark), do: "A model of this server made it."

  defp meaning("declares_ai", _watermark) do
    "Its signed statement says that a model made it. Who signed it is not known here."
  end

  defp meaning("unknown", _watermark) do
    "No mark of this server was found. That does not mean that no model made it: marks can be lost, " <>
      "and other generators have other marks."
  end
end
