defmodule Koma.HTTP.Jobs do
  @moduledoc "`/v1/jobs`: submit (and wait), list, read, cancel, forget, follow."

  @behaviour Koma.HTTP.Handler

  alias Koma.HTTP.{Body, EventStream, Reply}
  alias Koma.{Access, Error, Follower, Params}

  @submit %{"wait" => {{:one_of, ["true", "false"]}, "false"}}
  @list %{
    "state" => {{:one_of, Koma.Job.Lifecycle.states()}, nil},
    "task" => {:string, nil},
    "limit" => {{:integer, 1, 1_000}, 100}
  }

  @delete %{"forget" => {{:one_of, ["true", "false"]}, "false"}}

  @impl true
  def methods(:collection), do: ["GET", "HEAD", "POST"]
  def methods(:item), do: ["GET", "HEAD", "DELETE"]
  def methods(:events), do: ["GET"]

  @impl true
  def handle(:collection, "POST", req, caller) do
    with {:ok, %{"wait" => wait}} <- Params.check(query(req), @submit),
         {:ok, request, req} <- Body.work(req),
         :ok <- hold(wait, caller),
         {:ok, job} <- Koma.submit(request, caller) do
      if wait == "true", do: wait(job["id"], req, caller), else: {:ok, accepted(req, job)}
    end
  end

  def handle(:collection, _get, req, caller) do
    with {:ok, filter} <- Params.check(Params.from_query(query(req), @list), @list) do
      given = for {name, value} <- filter, value != nil, into: %{}, do: {name, value}
      {:ok, Reply.json(req, 200, Koma.jobs(caller, given))}
    end
  end

  def handle(:item, "DELETE", req, caller) do
    with {:ok, %{"forget" => forget}} <- Params.check(query(req), @delete) do
      if forget == "true", do: forget(req, caller), else: cancel(req, caller)
    end
  end

  def handle(:item, _get, req, caller), do: read(req, caller)
  def handle(:events, "GET", req, caller), do: EventStream.serve(:job, req, caller)

  defp cancel(req, caller) do
    with :ok <- Koma.cancel(id(req), caller), do: read(req, caller)
  end

  defp forget(req, caller) do
    with :ok <- Koma.forget(id(req), caller) do
      {:ok, :cowboy_req.reply(204, Reply.secure(%{}), req)}
    end
  end

  defp read(req, caller) do
    with {:ok, job} <- Koma.job(id(req), caller), do: {:ok, Reply.json(req, 200, job)}
  end

  defp accepted(req, job) do
    Reply.json(req, 202, job, %{"location" => "/v1/jobs/#{job["id"]}"})
  end

  # Before the job is accepted, so that nobody is refused one that runs.
  defp hold("true", caller), do: Access.hold(caller, :sockets)
  defp hold("false", _caller), do: :ok

  defp wait(id, req, caller) do
    with {:ok, follower, _job, _events, _previews} <- Follower.start({:job, id}, :none, caller) do
      {:stream,
       fn ->
         :ok = :cowboy_req.cast({:set_options, %{idle_timeout: :infinity}}, req)
         answer(await_end(follower), id, req, caller)
       end}
    end
  end

  defp answer(:ok, id, req, caller) do
    {:ok, job} = Koma.job(id, caller)
    Reply.json(req, 200, job, %{"location" => "/v1/jobs/#{id}"})
  end

  defp answer({:error, error}, _id, req, _caller), do: Reply.error(req, error)

  defp await_end(%Follower{ended: true}), do: :ok

  defp await_end(follower) do
    receive do
      :koma_access_changed ->
        if Access.valid?(follower.caller),
          do: await_end(follower),
          else: {:error, Error.new("unauthorized", "The API key was taken away.")}

      message ->
        case Follower.handle(follower, message) do
          {:events, _events, follower} -> await_end(follower)
          _preview_or_other -> await_end(follower)
        end
    end
  end

  defp id(req), do: :cowboy_req.binding(:id, req)
  defp query(req), do: req |> :cowboy_req.parse_qs() |> Map.new()
end
