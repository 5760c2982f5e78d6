defmodule Koma.Queue.Pauses do
  @moduledoc """
  Which queues an operator has paused: an empty file for each in the data folder, so that a restart
  does not start what somebody stopped.
  """

  alias Koma.Options
  alias Koma.Store.Folder

  @doc "Whether the queue of a family is paused."
  @spec paused?(family :: String.t()) :: boolean
  def paused?(family), do: File.exists?(path(family))

  @doc "Pauses it, or not; an error where that cannot be kept."
  @spec put(family :: String.t(), boolean) :: :ok | {:error, File.posix()}
  def put(family, true) do
    with :ok <- Folder.make(folder()), do: Folder.touch(path(family))
  end

  def put(family, false) do
    with {:error, :enoent} <- File.rm(path(family)), do: :ok
  end

  defp folder, do: Path.join(Options.get().data_dir, "paused")
  defp path(family), do: Path.join(folder(), URI.encode_www_form(family))
end
