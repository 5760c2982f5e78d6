defmodule Koma.HTTP.ETag do
  @moduledoc "Entity tags (RFC 9110, 8.8.3 and 13.1): pure."

  @doc "The strong tag of an artifact."
  @spec of(String.t()) :: String.t()
  def of(id), do: ~s("#{id}")

  @doc "Whether an `If-None-Match` header names the tag: weak comparison, lists and `*` included."
  @spec listed?(String.t() | nil, String.t()) :: boolean
  def listed?(nil, _tag), do: false

  def listed?(header, tag) do
    header
    |> String.split(",")
    |> Enum.map(&String.trim/1)
    |> Enum.any?(&(&1 == "*" or String.replace_prefix(&1, "W/", "") == tag))
  end

  @doc "Whether `Range` counts under this `If-Range` header: absent, or exactly the strong tag."
  @spec range_valid?(String.t() | nil, String.t()) :: boolean
  def range_valid?(header, tag), do: header in [nil, tag]
end
