defmodule Koma.Access.BucketTest do
  use ExUnit.Case, async: true

  alias Koma.Access.Bucket

  doctest Bucket

  @second 1_000_000_000

  test "a full bucket lets `burst` requests through at once, then `rate` a second" do
    {bucket, 5} = drain(0, 0, 10, 5)
    assert {:wait, 100} = Bucket.take(bucket, 0, 10, 5)
    assert {:wait, 1} = Bucket.take(bucket, 99_999_999, 10, 5)
    assert {:ok, bucket} = Bucket.take(bucket, 100_000_000, 10, 5)
    assert {:wait, 100} = Bucket.take(bucket, 100_000_000, 10, 5)
    assert {_bucket, 5} = drain(bucket, 10 * @second, 10, 5)
  end

  test "it gives the same answers as counting tokens" do
    for seed <- 1..20 do
      :rand.seed(:exsss, {seed, seed, seed})
      rate = :rand.uniform(50)
      burst = :rand.uniform(20)
      # Times that both kinds of arithmetic have exactly.
      token = div(@second, rate)

      Enum.reduce(1..300, {0, 0, burst * token}, fn _request, {now, bucket, level} ->
        pause = :rand.uniform(2 * token)
        now = now + pause
        level = min(level + pause, burst * token)

        case Bucket.take(bucket, now, rate, burst) do
          {:ok, bucket} ->
            assert level >= token
            {now, bucket, level - token}

          {:wait, ms} ->
            assert level < token
            assert ms == div(token - level + 999_999, 1_000_000)
            {now, bucket, level}
        end
      end)
    end
  end

  defp drain(bucket, now, rate, burst, n \\ 0) do
    case Bucket.take(bucket, now, rate, burst) do
      {:ok, bucket} -> drain(bucket, now, rate, burst, n + 1)
      {:wait, _ms} -> {bucket, n}
    end
  end
end
