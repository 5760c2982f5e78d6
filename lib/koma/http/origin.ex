defmodule Koma.HTTP.Origin do
  @moduledoc """
  Whose page a request comes from: pure. Browsers let any page send requests anywhere, and tell its origin
  (`Origin`) and by which name it found the server (`Host`).
  """

  @doc """
  Whether a page of `origin` is one of the server itself, which it knows as `host`, or of one of
  the `others`. The scheme may differ behind a proxy that ends TLS; host and port are what the page was asked from.

      iex> Koma.HTTP.Origin.allowed?("http://localhost:4000", "localhost:4000", [])
      true

      iex> Koma.HTTP.Origin.allowed?("null", "localhost:4000", [])
      false
  """
  @spec allowed?(String.t(), host :: String.t(), others :: [String.t()]) :: boolean
  def allowed?(origin, host, others) do
    String.replace(origin, ~r{\Ahttps?://}, "") == host or origin in others
  end

  @doc """
  Whether `host` names this machine for itself, or is that of one of the origins `others`.

  A name of somebody else's may point here all the same: a page of theirs then counts as one of the
  server's own ("DNS rebinding"). A server that asks for no keys must not listen to it.

      iex> Koma.HTTP.Origin.local?("localhost:4000", [])
      true

      iex> Koma.HTTP.Origin.local?("example.com:4000", [])
      false
  """
  @spec local?(host :: String.t(), others :: [String.t()]) :: boolean
  def local?(host, others) do
    name = host |> String.replace(~r/:[0-9]+\z/, "") |> String.downcase()

    name == "localhost" or String.ends_with?(name, ".localhost") or
      Koma.Access.Policy.loopback?(String.trim(name, "[") |> String.trim("]")) or
      Enum.any?(others, &(String.replace(&1, ~r{\Ahttps?://}, "") == host))
  end
end
