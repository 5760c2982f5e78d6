defmodule Koma.GuestsTest do
  @moduledoc "What those who have no key can take from a server that asks for one: measured from outside."
  use Koma.EdgeCase

  alias Koma.{Guests, OtherServer}

  @mib 1024 * 1024
  @each 6
  @most 128 * @mib

  test "all attacks at once take no more memory than is meant for guests; a job of a caller ends",
       %{
         dir: dir
       } do
    server = OtherServer.start(dir, 512, keys: key("a"))
    before = OtherServer.memory(server, "RSS")
    :ok = OtherServer.forget_peak(server)
    attacks = for {_name, attack} <- Guests.attacks(), _ <- 1..@each, do: attack

    tasks =
      for attack <- attacks do
        Task.async(fn ->
          opened = Guests.attack(server.port, attack)
          # What it holds is held until all have sent.
          receive do: (:close -> opened)
        end)
      end

    job = Koma.JSON.encode!(%{"task" => "toy.run", "params" => %{"steps" => 5}})
    headers = [{"x-api-key", secret("a")}, {"content-type", "application/json"}]
    answer = http(server.port, "POST", "/v1/jobs?wait=true", headers, job)
    assert %{"state" => "completed"} = json(answer)
    for %Task{pid: pid} <- tasks, do: send(pid, :close)
    Task.await_many(tasks, 120_000)
    more = OtherServer.memory(server, "HWM") - before
    assert more <= @most, "#{div(more, @mib)} MiB"
  end
end
