defmodule Koma.Channel.OutboxTest do
  use ExUnit.Case, async: true

  import Koma.Properties

  alias Koma.Channel.{Outbox, Preview}

  defp preview(step), do: %Preview{form: "base64", subject: {"job", %{}}, preview: step}
  defp put_all(outbox, pushes), do: Enum.reduce(pushes, outbox, &Outbox.put(&2, &1))

  test "at most a window is under way; each that is written lets one follow" do
    pushes = for n <- 1..(Outbox.window() + 2), do: {:event, "e", "#{n}"}
    {taken, outbox} = %Outbox{} |> put_all(pushes) |> Outbox.take()
    assert length(taken) == Outbox.window()
    assert {[], ^outbox} = Outbox.take(outbox)

    {[{:event, {"e", json}}], outbox} = outbox |> Outbox.written(1) |> Outbox.take()
    assert json == "#{Outbox.window() + 1}"
    assert {[_last], _outbox} = outbox |> Outbox.written(1) |> Outbox.take()
  end

  test "a slow reader gets the latest preview of each key and none in between" do
    busy = for n <- 1..Outbox.preview_window(), do: {:event, "e", "#{n}"}
    {_sent, outbox} = %Outbox{} |> put_all(busy) |> Outbox.take()

    waiting =
      put_all(outbox, for(n <- 1..50, key <- [:a, :b], do: {:preview, key, preview({key, n})}))

    assert map_size(waiting.previews) == 2
    assert {[], waiting} = Outbox.take(waiting)

    {first, waiting} = waiting |> Outbox.written(1) |> Outbox.take()
    {second, _empty} = waiting |> Outbox.written(1) |> Outbox.take()

    steps = for {:preview, preview} <- first ++ second, do: preview.preview
    assert Enum.sort(steps) == [a: 50, b: 50]
  end

  test "events go before previews that wait" do
    outbox = put_all(%Outbox{}, [{:preview, :a, preview(1)}, {:event, "progress", "1"}])
    assert {[{:event, _}, {:preview, _}], _outbox} = Outbox.take(outbox)
  end

  test "no preview follows the last event" do
    outbox = put_all(%Outbox{}, [{:preview, :a, preview(1)}, {:last, "completed", "{}"}])
    assert {[{:event, {"completed", "{}"}}], outbox} = Outbox.take(outbox)
    assert outbox.previews == %{}
  end

  test "whatever comes when: every event is sent once, in order, within the window" do
    action = one_of([:event, :preview, :written])

    assert holds(list(action), fn actions ->
             {sent, outbox} = actions |> Enum.with_index() |> Enum.reduce({[], %Outbox{}}, &act/2)
             {rest, _outbox} = drain(outbox, [])

             events = for {:event, {"e", n}} <- Enum.reverse(sent) ++ rest, do: n
             events == for({:event, n} <- Enum.with_index(actions), do: "#{n}")
           end)
  end

  defp act({:written, _n}, {sent, %Outbox{in_flight: 0} = outbox}), do: {sent, outbox}

  defp act({:written, n}, {sent, outbox}),
    do: take(sent, Outbox.written(outbox, rem(n, outbox.in_flight) + 1))

  defp act({:event, n}, {sent, outbox}), do: take(sent, Outbox.put(outbox, {:event, "e", "#{n}"}))

  defp act({:preview, n}, {sent, outbox}) do
    take(sent, Outbox.put(outbox, {:preview, :key, preview(n)}))
  end

  defp take(sent, outbox) do
    {taken, outbox} = Outbox.take(outbox)
    true = outbox.in_flight <= Outbox.window()
    {Enum.reverse(taken) ++ sent, outbox}
  end

  defp drain(%Outbox{in_flight: 0} = outbox, sent), do: {sent, outbox}

  defp drain(outbox, sent) do
    {taken, outbox} = outbox |> Outbox.written(1) |> Outbox.take()
    drain(outbox, sent ++ taken)
  end
end
