defmodule Koma.ModelNode.CountsTest do
  use ExUnit.Case, async: true

  alias Koma.ModelNode.Counts
  alias Koma.Wire.Messages.Counted

  # A caller as `GenServer.call/2` makes one; its answer comes to this process.
  defp caller, do: {self(), make_ref()}

  test "each caller gets the answer to its own question, in whatever order they come" do
    {one, other} = {caller(), caller()}
    {:ok, first, counts} = Counts.ask(Counts.new(), one, "t", %{"prompt" => "a"})
    {:ok, second, counts} = Counts.ask(counts, other, "t", %{"prompt" => "b"})
    counts = Counts.answer(counts, %Counted{id: second.id, prompts: %{"prompt" => 2}})
    counts = Counts.answer(counts, %Counted{id: first.id, prompts: %{"prompt" => 1}})

    for {{_pid, tag}, n} <- [{one, 1}, {other, 2}],
        do: assert_received({^tag, {:ok, %{"prompt" => ^n}}})

    assert Counts.answer(counts, %Counted{id: first.id, prompts: %{}}) == counts
  end

  test "few wait at a time; when the process is gone all are told, and later ones are asked again" do
    callers = for _ <- 1..16, do: caller()

    counts =
      Enum.reduce(callers, Counts.new(), fn from, counts ->
        {:ok, _message, counts} = Counts.ask(counts, from, "t", %{})
        counts
      end)

    assert Counts.ask(counts, caller(), "t", %{}) == :full
    counts = Counts.lose(counts)

    for {_pid, tag} <- callers,
        do: assert_received({^tag, {:error, %Koma.Error{code: "unavailable"}}})

    assert {:ok, _message, _counts} = Counts.ask(counts, caller(), "t", %{})
  end
end
