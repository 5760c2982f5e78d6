defmodule Koma.Access.Bucket do
  @moduledoc """
  A token bucket as one number: the time at which it will be full again. (The "generic cell rate
  algorithm" of ITU-T I.371, annex A: the same answers as counting tokens, without a timer.) Pure.

  It holds `burst` tokens, gets `rate` of them a second, and each request takes one.
  """

  @second 1_000_000_000

  @typedoc "When the bucket is full again, in ns; anything in the past is a full one."
  @type t :: integer

  @doc """
  Takes a token at `now` (ns): the bucket afterwards, or how many ms until there is one.

      iex> {:ok, bucket} = Koma.Access.Bucket.take(0, 0, 10, 1)
      iex> Koma.Access.Bucket.take(bucket, 0, 10, 1)
      {:wait, 100}
  """
  @spec take(t, now :: integer, rate :: pos_integer, burst :: pos_integer) ::
          {:ok, t} | {:wait, ms :: pos_integer}
  def take(bucket, now, rate, burst) do
    token = div(@second, rate)
    bucket = max(bucket, now)
    early = bucket - now - (burst - 1) * token

    if early <= 0,
      do: {:ok, bucket + token},
      else: {:wait, div(early + 999_999, 1_000_000)}
  end
end
