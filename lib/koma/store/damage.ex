defmodule Koma.Store.Damage do
  @moduledoc """
  What becomes of a file in which bytes do not add up: it is kept aside under another name, for
  whoever wants to look at it, and the damage is logged and counted once.
  """
  require Logger

  alias Koma.Store.Folder
  alias Koma.Telemetry

  @type kind :: :journal | :pipeline

  @doc "Keeps the bytes of a file aside; the file itself stays. Returns the name, or why not."
  @spec keep(Path.t()) :: {:ok, Path.t()} | {:error, File.posix()}
  def keep(path) do
    aside = aside(path)

    # Not every file system has links.
    with {:error, _reason} <- File.ln(path, aside),
         {:error, reason} <- File.cp(path, aside),
         do: {:error, reason},
         else: (_kept -> kept(aside))
  end

  @doc "Copies a file aside that is written on where it is."
  @spec copy(Path.t()) :: {:ok, Path.t()} | {:error, File.posix()}
  def copy(path) do
    aside = aside(path)
    with :ok <- File.cp(path, aside), do: kept(aside)
  end

  @doc "Moves a file aside: nothing in it can be read."
  @spec set_aside(Path.t()) :: {:ok, Path.t()} | {:error, File.posix()}
  def set_aside(path) do
    aside = aside(path)
    with :ok <- File.rename(path, aside), do: kept(aside)
  end

  @doc "Tells operators of damage: so many damaged places, of so many bytes, and what was lost."
  @spec tell(kind, [{non_neg_integer, pos_integer}], String.t()) :: :ok
  def tell(kind, places, message) do
    Logger.error(message)
    measured = %{places: length(places), bytes: bytes(places)}
    Telemetry.execute([:koma, :store, :damaged], measured, %{kind: kind})
  end

  @doc "The bytes of damaged places."
  @spec bytes([{non_neg_integer, pos_integer}]) :: non_neg_integer
  def bytes(places), do: places |> Enum.map(&elem(&1, 1)) |> Enum.sum()

  defp kept(aside) do
    with :ok <- Folder.sync(Path.dirname(aside)), do: {:ok, aside}
  end

  defp aside(path) do
    now = DateTime.utc_now() |> DateTime.to_iso8601(:basic)
    "#{path}.damaged-#{now}"
  end
end
