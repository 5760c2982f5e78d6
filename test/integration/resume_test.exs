defmodule Koma.ResumeTest do
  @moduledoc "Followers that come back with the number of an event that there has never been."
  use Koma.EdgeCase

  alias Koma.Pipeline

  setup %{dir: dir}, do: {:ok, port: start_server(dir)}

  defp live, do: submit!(%{"steps" => 2_000, "step_ms" => 10, "tokens" => false})["id"]

  defp live_pipeline do
    stage = %{
      "name" => "a",
      "task" => "toy.run",
      "params" => %{"steps" => 2_000, "step_ms" => 10}
    }

    {:ok, %{"id" => id}} = Pipeline.submit(%{"stages" => [stage]}, %Caller{})
    id
  end

  defp refusal(socket, topic, number) do
    push(socket, ["r", "r", topic, "phx_join", %{"after" => number}])

    [_, _, ^topic, "phx_reply", %{"status" => "error", "response" => told}] =
      List.last(read_until(socket, &match?([_, "r", ^topic, "phx_reply", _], &1)))

    told
  end

  # A stream of events that ends by itself; `end_it` is called once it has begun.
  defp stream(port, path, number, end_it) do
    {:ok, gun} = :gun.open('127.0.0.1', port, %{retry: 0})
    stream = :gun.get(gun, path, [{"last-event-id", number}])
    {:response, :nofin, 200, _headers} = :gun.await(gun, stream, 10_000)
    end_it.()
    {:ok, body} = :gun.await_body(gun, stream, 20_000)
    :ok = :gun.close(gun)
    for "event: " <> type <- String.split(body, "\n"), type != "preview", do: type
  end

  test "a number beyond a live job or pipeline is refused on the socket, with the latest as the bound; that one is taken",
       %{port: port} do
    socket = connect(port)

    for topic <- ["job:" <> live(), "pipeline:" <> live_pipeline()] do
      for {number, shown} <- [{1_000_000, 1_000_000}, {10 ** 30, "a number of 31 digits"}] do
        assert %{"code" => "out_of_bounds", "field" => "after"} =
                 told = refusal(socket, topic, number)

        assert told["value"] == shown
        assert told["bound"] in 1..999_999
        assert told["message"] =~ "#{told["bound"]}"
      end

      join!(socket, topic, %{"after" => refusal(socket, topic, 1_000_000)["bound"]})
      assert %{"status" => "ok"} = ask(socket, topic, "cancel", %{})
      assert [_, _, ^topic, "cancelled", %{"seq" => last}] = await(socket, topic, "cancelled")
      # The same for one that has ended.
      assert %{"code" => "out_of_bounds", "bound" => ^last} = refusal(socket, topic, last + 1)
      assert %{} = join!(socket, topic, %{"after" => last})
    end
  end

  defp await(socket, topic, event) do
    socket |> read_until(&match?([_, _, ^topic, ^event, _], &1)) |> List.last()
  end

  test "an event stream that comes back with a number beyond a live job or pipeline hears how it ends",
       %{port: port} do
    for number <- ["1000000", String.duplicate("9", 18)] do
      job = live()
      cancel = fn -> :ok = Koma.cancel(job, %Caller{}) end
      assert List.last(stream(port, "/v1/jobs/#{job}/events", number, cancel)) == "cancelled"
      pipeline = live_pipeline()
      cancel = fn -> :ok = Pipeline.cancel(pipeline, %Caller{}) end
      types = stream(port, "/v1/pipelines/#{pipeline}/events", number, cancel)
      assert List.last(types) == "cancelled"

      # When all is over there is nothing more to hear.
      for path <- ["/v1/jobs/#{job}/events", "/v1/pipelines/#{pipeline}/events"],
          do: assert({204, _, ""} = http(port, "GET", path, [{"last-event-id", number}]))
    end
  end
end
