defmodule Koma.ModelNode.Backoff do
  @moduledoc "Pauses between restarts: doubling from a minimum to a maximum, with jitter."

  @doc """
  The pause in ms after `failures` (1, 2, …) failures in a row. `random` in 0.0..1.0 moves it
  down by up to a quarter, so that model nodes that died together do not start together.
  """
  @spec delay_ms(pos_integer, pos_integer, pos_integer, float) :: pos_integer
  def delay_ms(failures, min_ms, max_ms, random) do
    # 2^20 times any minimum is beyond every sensible maximum.
    pause = min(min_ms * Integer.pow(2, min(failures - 1, 20)), max_ms)
    max(round(pause * (1 - 0.25 * random)), 1)
  end
end
