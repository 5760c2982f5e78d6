defmodule Koma.Store.Retention do
  @moduledoc """
  Which finished jobs are to be forgotten: those that ended too long ago and, while the artifacts
  of all jobs take too many bytes, the oldest that have any. Pure.
  """

  @typedoc "A finished job: when it ended (ms since 1970), its id, its inputs and outputs."
  @type finished :: {ended_at :: integer, id :: String.t(), artifacts :: [String.t()]}

  @doc "Splits finished jobs into those that ended before `since` and the others."
  @spec too_old([finished], integer) :: {forgotten :: [finished], kept :: [finished]}
  def too_old(finished, since), do: Enum.split_with(finished, fn {at, _, _} -> at < since end)

  @doc """
  The oldest of `finished` (in this order) without which the artifacts of the others and of
  `live` jobs have at most `limit` bytes; `sizes` are those of all stored artifacts.
  """
  @spec too_large([finished], [String.t()], %{String.t() => non_neg_integer}, non_neg_integer) ::
          [finished]
  def too_large(finished, live, sizes, limit) do
    uses = Enum.frequencies(live ++ Enum.flat_map(finished, &artifacts/1))
    bytes = uses |> Map.keys() |> Enum.map(&Map.get(sizes, &1, 0)) |> Enum.sum()

    {_uses, _bytes, forgotten} =
      finished
      |> Enum.reject(&(artifacts(&1) == []))
      |> Enum.reduce_while({uses, bytes, []}, fn job, {uses, bytes, forgotten} ->
        if bytes <= limit do
          {:halt, {uses, bytes, forgotten}}
        else
          {uses, freed} = forget(artifacts(job), uses, sizes)
          {:cont, {uses, bytes - freed, [job | forgotten]}}
        end
      end)

    Enum.reverse(forgotten)
  end

  defp artifacts({_at, _id, artifacts}), do: artifacts

  defp forget(artifacts, uses, sizes) do
    Enum.reduce(artifacts, {uses, 0}, fn artifact, {uses, freed} ->
      case uses[artifact] - 1 do
        0 -> {Map.put(uses, artifact, 0), freed + Map.get(sizes, artifact, 0)}
        left -> {Map.put(uses, artifact, left), freed}
      end
    end)
  end
end
