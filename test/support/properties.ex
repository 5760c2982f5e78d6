defmodule Koma.Properties do
  @moduledoc "PropEr's functions without its Erlang macros."

  @doc "Checks that `property` returns true for values of `type`; raises with the counterexample."
  @spec holds(term, (term -> boolean), pos_integer) :: true
  def holds(type, property, runs \\ 200) do
    options = [:quiet, :long_result, numtests: runs]

    case :proper.quickcheck(:proper.forall(type, property), options) do
      true -> true
      counterexample -> raise "does not hold for #{inspect(counterexample, limit: :infinity)}"
    end
  end

  @doc "A list of a type."
  @spec list(term) :: term
  def list(type), do: :proper_types.list(type)

  @doc "One of some types."
  @spec one_of([term]) :: term
  def one_of(types), do: :proper_types.oneof(types)

  @doc "An integer of a range."
  @spec integer(integer | :inf, integer | :inf) :: term
  def integer(low, high), do: :proper_types.integer(low, high)

  @doc "Text of any characters."
  @spec text() :: term
  def text do
    character = one_of([integer(0, 0xD7FF), integer(0xE000, 0x10FFFF)])
    map(list(character), &List.to_string/1)
  end

  @doc "Bytes."
  @spec bytes() :: term
  def bytes, do: :proper_types.binary()

  @doc "The values of a type, each through a function."
  @spec map(term, (term -> term)) :: term
  def map(type, fun), do: :proper_types.bind(type, fun, false)

  @doc "Small values of a type."
  @spec small(term) :: term
  def small(type), do: :proper_types.resize(4, type)
end
