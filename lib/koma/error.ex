defmodule Koma.Error do
  @moduledoc """
  An error that can be told to a user: a value with a stable code.

  The codes, their HTTP statuses and their meanings are those of `errors.json`, the one list that
  the gateway, the model nodes and the clients share; it is read when this module is compiled.
  """

  alias Koma.Shown

  @list Path.expand("../../errors.json", __DIR__)
  @external_resource @list
  @codes @list |> File.read!() |> :jiffy.decode([:return_maps])

  @enforce_keys [:code, :message]
  defstruct [:code, :message, :field, :value, :bound, :retry_after_ms]

  @type t :: %__MODULE__{
          code: String.t(),
          message: String.t(),
          field: String.t() | nil,
          value: term,
          bound: term,
          retry_after_ms: non_neg_integer | nil
        }

  @doc "The shared list: code to `%{\"status\" => HTTP status, \"meaning\" => text}`."
  @spec codes() :: %{String.t() => %{String.t() => integer | String.t()}}
  def codes, do: @codes

  @doc "Whether `code` is in the shared list."
  @spec known?(term) :: boolean
  def known?(code), do: is_map_key(@codes, code)

  @doc "The HTTP status of a code."
  @spec status(String.t()) :: pos_integer
  def status(code), do: @codes |> Map.fetch!(code) |> Map.fetch!("status")

  @doc """
  Makes an error. `details` may hold `:field`, `:value`, `:bound` and `:retry_after_ms`.

  Raises `ArgumentError` for a code that is not in `errors.json`.
  """
  @spec new(String.t(), String.t(), keyword) :: t
  def new(code, message, details \\ []) do
    unless known?(code) do
      raise ArgumentError, "unknown error code #{inspect(code)}: add it to errors.json"
    end

    struct!(__MODULE__, [{:code, code}, {:message, message} | shorten(details)])
  end

  @doc "The fields that are set, with string keys, as they travel to clients."
  @spec to_map(t) :: %{String.t() => term}
  def to_map(%__MODULE__{} = error) do
    for {key, value} <- Map.from_struct(error), value != nil, into: %{} do
      {Atom.to_string(key), value}
    end
  end

  defp shorten(details) do
    case Keyword.fetch(details, :value) do
      {:ok, value} -> Keyword.put(details, :value, Shown.value(value))
      :error -> details
    end
  end
end
