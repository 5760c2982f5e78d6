defmodule Koma.Faults.ClusterStormTest do
  use Koma.ClusterCase, async: false

  @moduletag timeout: 600_000

  test "while peers are killed and cut off from each other, jobs that clients follow are each answered once, as undisturbed",
       context do
    times = [every_ms: 2_000, down_ms: 500, cut_ms: 3_000, steps: 20]
    assert Koma.ClusterStorm.run(context, 120, times) == []
  end
end
