defmodule Koma.Each do
  @moduledoc "What may fail, done for each of several; the first failure is the answer."

  @doc "The values that `fun` made, in order, or the first error."
  @spec map(Enumerable.t(), (element -> {:ok, value} | {:error, reason})) ::
          {:ok, [value]} | {:error, reason}
        when element: term, value: term, reason: term
  def map(elements, fun) do
    elements
    |> Enum.reduce_while([], fn element, done ->
      case fun.(element) do
        {:ok, value} -> {:cont, [value | done]}
        {:error, reason} -> {:halt, {:error, reason}}
      end
    end)
    |> case do
      {:error, reason} -> {:error, reason}
      done -> {:ok, Enum.reverse(done)}
    end
  end
end
