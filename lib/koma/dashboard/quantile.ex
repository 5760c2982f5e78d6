defmodule Koma.Dashboard.Quantile do
  @moduledoc """
  Quantiles of what a histogram counted, as `histogram_quantile` of Prometheus estimates them: pure.
  The estimate lies in the bucket that the true value lies in, so it is as good as the buckets are narrow.
  """

  @typedoc "How many were counted in each bucket, by its place; empty buckets are left out."
  @type counts :: %{(place :: non_neg_integer) => pos_integer}

  @doc """
  The counts of all buckets without the empty ones.

      iex> Koma.Dashboard.Quantile.sparse([0, 10, 0, 3])
      %{1 => 10, 3 => 3}
  """
  @spec sparse([non_neg_integer]) :: counts
  def sparse(counts),
    do: for({n, place} <- Enum.with_index(counts), n > 0, into: %{}, do: {place, n})

  @doc """
  The value below which the fraction `q` lies, in the unit of the bounds; nil where nothing was
  counted. The place after the last bound is that of what lies beyond, of which nothing but
  that bound is known.

      iex> Koma.Dashboard.Quantile.of({1, 2, 4}, %{1 => 10}, 0.5)
      1.5

      iex> Koma.Dashboard.Quantile.of({1, 2, 4}, %{3 => 3}, 0.5)
      4.0

      iex> Koma.Dashboard.Quantile.of({1, 2, 4}, %{}, 0.5)
      nil
  """
  @spec of(bounds :: tuple, counts, float) :: float | nil
  def of(_bounds, counts, _q) when counts == %{}, do: nil

  def of(bounds, counts, q) do
    rank = q * Enum.sum(Map.values(counts))
    {place, within} = counts |> Enum.sort() |> find(rank)
    low = bound(bounds, place - 1)
    low + (bound(bounds, place) - low) * within
  end

  # The bucket in which the rank falls, and which part of the bucket lies below it.
  defp find([{place, count} | rest], rank) do
    if rank <= count or rest == [],
      do: {place, min(rank / count, 1.0)},
      else: find(rest, rank - count)
  end

  defp bound(_bounds, -1), do: 0
  defp bound(bounds, place), do: elem(bounds, min(place, tuple_size(bounds) - 1))

  @doc """
  What was counted since an earlier state of the same histogram.

      iex> Koma.Dashboard.Quantile.since(%{1 => 10, 2 => 1}, %{1 => 10})
      %{2 => 1}
  """
  @spec since(counts, counts) :: counts
  def since(counts, earlier) do
    for {place, n} <- counts,
        new = n - Map.get(earlier, place, 0),
        new > 0,
        into: %{},
        do: {place, new}
  end
end
