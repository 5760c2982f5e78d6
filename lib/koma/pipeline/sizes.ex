defmodule Koma.Pipeline.Sizes do
  @moduledoc """
  How many pipelines of each API key have not ended, and how many bytes the stored ones take: what
  counts against the limits of the key before a pipeline is stored. Kept in ETS; made anew from the
  files at start.
  """

  @table __MODULE__

  @type key :: String.t() | nil

  @doc "Makes the table; the calling process owns it."
  @spec open() :: :ok
  def open do
    @table = :ets.new(@table, [:set, :named_table, :public, write_concurrency: true])
    :ok
  end

  @doc """
  Takes a place for a pipeline that is to be stored in so many bytes; nothing where one of the
  limits does not allow it (`nil`: none).
  """
  @spec admit(String.t(), key, pos_integer, pipelines :: limit, bytes :: limit) ::
          :ok | :too_many | :full
        when limit: non_neg_integer | nil
  def admit(id, key, bytes, max_live, max_bytes) do
    cond do
      add({:live, key}, 1) > max_live ->
        _live = add({:live, key}, -1)
        :too_many

      add({:bytes, key}, bytes) > max_bytes ->
        _live = add({:live, key}, -1)
        _bytes = add({:bytes, key}, -bytes)
        :full

      true ->
        true = :ets.insert(@table, {id, key, bytes, true})
        :ok
    end
  end

  @doc "A pipeline that was stored before the server started, unless it is known."
  @spec restore(String.t(), key, non_neg_integer, live? :: boolean) :: :ok
  def restore(id, key, bytes, live?) do
    if :ets.insert_new(@table, {id, key, bytes, live?}) do
      _bytes = add({:bytes, key}, bytes)
      _live = if live?, do: add({:live, key}, 1)
      :ok
    else
      :ok
    end
  end

  @doc "It takes so many bytes now. Only the process of the pipeline says so."
  @spec measured(String.t(), non_neg_integer) :: :ok
  def measured(id, bytes) do
    for {^id, key, before, _live?} <- :ets.lookup(@table, id) do
      :ets.update_element(@table, id, {3, bytes})
      _bytes = add({:bytes, key}, bytes - before)
    end

    :ok
  end

  @doc "It has ended. Only the process of the pipeline says so."
  @spec ended(String.t()) :: :ok
  def ended(id) do
    for {^id, key, _bytes, true} <- :ets.lookup(@table, id) do
      :ets.update_element(@table, id, {4, false})
      _live = add({:live, key}, -1)
    end

    :ok
  end

  @doc "Its file is gone, or was not made."
  @spec forget(String.t()) :: :ok
  def forget(id) do
    for {^id, key, bytes, live?} <- :ets.take(@table, id) do
      _bytes = add({:bytes, key}, -bytes)
      _live = if live?, do: add({:live, key}, -1)
    end

    :ok
  end

  @doc "The bytes that the stored pipelines of a key take."
  @spec bytes(key) :: non_neg_integer
  def bytes(key) do
    case :ets.whereis(@table) != :undefined and :ets.lookup(@table, {:bytes, key}) do
      [{_name, bytes}] -> bytes
      _none -> 0
    end
  end

  # Any number is less than an atom, so less than `nil`.
  defp add(name, amount), do: :ets.update_counter(@table, name, amount, {name, 0})
end
