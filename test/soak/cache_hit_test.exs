defmodule Koma.Soak.CacheHitTest do
  use Koma.CoreCase, async: false

  @moduletag :soak

  @hits 500

  test "a hit is answered within 2 ms, and what the disk takes for its sync", %{dir: dir} do
    start_core(dir, share_results: true)
    request = %{"task" => "toy.run", "params" => %{"steps" => 2, "seed" => 1}}
    {:ok, %{"id" => id}} = Koma.submit(request, %Caller{})
    await_end(id)
    sync = median(for _ <- 1..@hits, do: sync(Path.join(dir, "sync")))

    hits =
      for _ <- 1..@hits do
        {us, {:ok, job}} = :timer.tc(fn -> Koma.submit(request, %Caller{}) end)
        assert %{"state" => "completed", "cached" => true} = job
        us
      end

    IO.puts("\n#{@hits} hits, median #{median(hits)} µs; a sync of the disk #{sync} µs")
    assert median(hits) - sync < 2_000
  end

  # What a job record takes of the disk by itself.
  defp sync(path) do
    {:ok, file} = :file.open(path, [:append, :raw])
    bytes = :binary.copy("x", 500)

    {us, :ok} =
      :timer.tc(fn ->
        :ok = :file.write(file, bytes)
        :file.datasync(file)
      end)

    :ok = :file.close(file)
    us
  end

  defp median(values), do: values |> Enum.sort() |> Enum.at(div(length(values), 2))
end
