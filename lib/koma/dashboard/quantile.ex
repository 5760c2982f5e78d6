defmodule Koma.Dashboard.Quantile do
  @moduledoc """
  Quantiles of what a histogram counted, as `histogram_quantile` of Prometheus estimates them: pure.
  """

  @doc """
  The value below which the fraction `q` lies, in the unit of the bounds; nil where nothing was
  counted. `counts` has one more entry than `bounds`, for what lies beyond the last, of which nothing but
  that bound is known.

      iex> Koma.Dashboard.Quantile.of([1, 2, 4], [0, 10, 0, 0], 0.5)
      1.5

      iex> Koma.Dashboard.Quantile.of([1, 2, 4], [0, 0, 0, 3], 0.5)
      4.0

      iex> Koma.Dashboard.Quantile.of([1, 2, 4], [0, 0, 0, 0], 0.5)
      nil
  """
  @spec of([number], [non_neg_integer], float) :: float | nil
  def of(bounds, counts, q) do
    case Enum.sum(counts) do
      0 -> nil
      total -> find([0 | bounds], counts, q * total)
    end
  end

  defp find([last], [_beyond], _rank), do: last / 1

  defp find([low, high | bounds], [count | counts], rank) do
    if count > 0 and rank <= count,
      do: low + (high - low) * rank / count,
      else: find([high | bounds], counts, rank - count)
  end

  @doc "What was counted between two states of a counter or histogram; the earlier may be missing."
  @spec since([non_neg_integer], [non_neg_integer] | nil) :: [non_neg_integer]
  def since(counts, nil), do: counts
  def since(counts, earlier), do: Enum.zip_with(counts, earlier, &max(&1 - &2, 0))
end
