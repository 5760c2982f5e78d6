defmodule Koma.Queue.Cost do
  @moduledoc """
  What a job is expected to cost: the time, in ms, for which it will hold a slot. Learned from
  jobs that ran; pure.

  The *work* of a job is its task and a size class: the binary logarithm, rounded, of the product
  of those parameters that tell how much there is to compute. The family marks them in its schema
  with `"x-work": true`. Jobs of one size class are at most a factor of two apart. The estimate is the running mean of
  what the jobs of the same work took, newer ones weighing more; for a size class not seen yet,
  that of the nearest one of the task, scaled by the difference in size; before anything ran,
  one second.
  """

  @first_ms 1_000.0
  # Of a new measurement; the first ones weigh more, so that the mean is soon right.
  @least_weight 0.1

  defstruct means: %{}

  @type size :: non_neg_integer
  @type work :: {task :: String.t(), size}
  @opaque t :: %__MODULE__{means: %{work => {ms :: float, count :: pos_integer}}}

  @doc "Nothing is known yet."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc """
  The size class of a job with these parameters, by the schema that its family declared. Numbers of 1
  and less make no work of their own.

      iex> schema = %{"properties" => %{"steps" => %{"x-work" => true}, "seed" => %{}}}
      iex> Koma.Queue.Cost.size(schema, %{"steps" => 16, "seed" => 99})
      4
  """
  @spec size(schema :: map, params :: map) :: size
  def size(schema, params) do
    product =
      for {name, %{"x-work" => true}} <- Map.get(schema, "properties", %{}),
          is_number(n = params[name]) and n > 1,
          reduce: 1,
          do: (all -> all * n)

    product |> :math.log2() |> round()
  end

  @doc "A job of this work held its slot for so long."
  @spec learn(t, work, non_neg_integer) :: t
  def learn(%__MODULE__{means: means} = cost, work, ms) do
    {mean, count} = Map.get(means, work, {0.0, 0})
    weight = max(1 / (count + 1), @least_weight)
    %{cost | means: Map.put(means, work, {mean + weight * (ms - mean), count + 1})}
  end

  @doc "What a job of this work is expected to cost, in ms; at least 1."
  @spec estimate_ms(t, work) :: pos_integer
  def estimate_ms(%__MODULE__{means: means}, {task, size}) do
    known = for {{^task, known}, {mean, _count}} <- means, do: {abs(known - size), known, mean}

    case Enum.min(known, fn -> nil end) do
      nil -> round(@first_ms)
      {_distance, near, mean} -> max(round(mean * :math.pow(2, size - near)), 1)
    end
  end
end
