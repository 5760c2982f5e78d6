defmodule Koma.Dashboard.Format do
  @moduledoc "Numbers, times and sizes for people: pure."

  @units ["B", "KiB", "MiB", "GiB", "TiB"]

  @doc """
  A size.

      iex> Enum.map([0, 1023, 1536, 5_368_709_120], &Koma.Dashboard.Format.bytes/1)
      ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
  """
  @spec bytes(number | nil) :: String.t()
  def bytes(nil), do: "–"
  def bytes(n), do: bytes(n, @units)

  defp bytes(n, [unit]), do: decimal(n) <> " " <> unit
  defp bytes(n, ["B" | _units]) when n < 1024, do: "#{n} B"
  defp bytes(n, [unit | _units]) when n < 1024, do: decimal(n) <> " " <> unit
  defp bytes(n, [_unit | units]), do: bytes(n / 1024, units)

  @doc """
  A duration in ms, as exactly as one wants to know it.

      iex> Enum.map([0, 950, 2_340, 75_000, 7_260_000, 180_000_000], &Koma.Dashboard.Format.duration/1)
      ["0 ms", "950 ms", "2.3 s", "1 min 15 s", "2 h 1 min", "2 d 2 h"]
  """
  @spec duration(number | nil) :: String.t()
  def duration(nil), do: "–"
  def duration(ms) when ms < 1_000, do: "#{round(ms)} ms"
  def duration(ms) when ms < 60_000, do: decimal(ms / 1000) <> " s"
  def duration(ms) when ms < 3_600_000, do: pair(round(ms / 1000), 60, "min", "s")
  def duration(ms) when ms < 86_400_000, do: pair(round(ms / 60_000), 60, "h", "min")
  def duration(ms), do: pair(round(ms / 3_600_000), 24, "d", "h")

  defp pair(n, base, large, small), do: "#{div(n, base)} #{large} #{rem(n, base)} #{small}"

  @doc """
  A duration in ms in whole seconds: what counts up in front of somebody.

      iex> Koma.Dashboard.Format.seconds(61_900)
      "1 min 1 s"
  """
  @spec seconds(number) :: String.t()
  def seconds(ms) when ms < 60_000, do: "#{div(trunc(max(ms, 0)), 1000)} s"
  def seconds(ms), do: ms |> trunc() |> div(1000) |> Kernel.*(1000) |> duration()

  @doc """
  A time of day (UTC) of ms since 1970.

      iex> Koma.Dashboard.Format.clock(3_661_000)
      "01:01:01"
  """
  @spec clock(integer) :: String.t()
  def clock(ms) do
    ms |> DateTime.from_unix!(:millisecond) |> Calendar.strftime("%H:%M:%S")
  end

  @doc """
  The whole time, for machines and tooltips.

      iex> Koma.Dashboard.Format.time(3_661_000)
      "1970-01-01 01:01:01 UTC"
  """
  @spec time(integer) :: String.t()
  def time(ms) do
    ms |> DateTime.from_unix!(:millisecond) |> Calendar.strftime("%Y-%m-%d %H:%M:%S UTC")
  end

  @doc """
  A number with one digit behind the point where that says something.

      iex> Enum.map([0, 0.04, 7.25, 12, 1234.5], &Koma.Dashboard.Format.number/1)
      ["0", "0.04", "7.3", "12", "1235"]
  """
  @spec number(number | nil) :: String.t()
  def number(nil), do: "–"
  def number(n) when is_integer(n) or n == 0, do: n |> trunc() |> Integer.to_string()
  def number(n) when n < 0.1, do: :erlang.float_to_binary(n / 1, decimals: 2)
  def number(n) when n < 100, do: decimal(n)
  def number(n), do: n |> round() |> Integer.to_string()

  @doc """
  A fraction as a percentage.

      iex> Koma.Dashboard.Format.percent(1, 3)
      "33.3 %"
  """
  @spec percent(number, number) :: String.t()
  def percent(_part, 0), do: "–"
  def percent(part, whole), do: decimal(100 * part / whole) <> " %"

  defp decimal(n), do: :erlang.float_to_binary(n / 1, decimals: 1)
end
