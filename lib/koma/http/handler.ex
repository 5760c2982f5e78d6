defmodule Koma.HTTP.Handler do
  @moduledoc """
  The Cowboy handler of every route of the interface, and the behaviour of what serves them.

  A route names a resource (a module with this behaviour) and an action. The handler finds the
  caller, checks the method, and turns errors into answers: a resource only returns them.
  """

  require Logger

  alias Koma.{Access, Caller, Error, Shown}
  alias Koma.HTTP.{Auth, CORS, Reply}

  @behaviour :cowboy_handler

  @type action :: atom
  @typedoc "`:stream` is for answers that go on: what it does happens after all checks."
  @type result ::
          {:ok, :cowboy_req.req()}
          | {:stream, (() -> :cowboy_req.req())}
          | {:error, Error.t()}
          | {:error, Error.t(), headers :: map}

  @doc "The methods of an action."
  @callback methods(action) :: [String.t()]

  @doc """
  Who an action is for: callers that are let in (`:key`, the default), those who may read the
  metrics, operators, or anybody. A `:browser` is anybody, too; the action itself looks at the
  cookie, which the others do not see.
  """
  @callback access(action) :: :key | :metrics | :operator | :browser | :public

  @doc "Answers with an error, where a resource has its own shape for them (`Koma.HTTP.Reply.error/3`)."
  @callback refuse(:cowboy_req.req(), Error.t(), headers :: map) :: :cowboy_req.req()
  @optional_callbacks access: 1, refuse: 3

  @doc "Serves a request whose method is one of `c:methods/1`."
  @callback handle(action, method :: String.t(), :cowboy_req.req(), Caller.t()) :: result

  @impl true
  @spec init(:cowboy_req.req(), {module, action}) :: {:ok, :cowboy_req.req(), {module, action}}
  def init(req, {resource, action} = state) do
    req = CORS.allow(req)

    req =
      case serve(resource, action, req) do
        {:ok, req} -> req
        {:stream, stream} -> stream.()
        {:error, error} -> refuse(resource, req, error, %{})
        {:error, error, headers} -> refuse(resource, req, error, headers)
      end

    {:ok, req, state}
  end

  defp refuse(resource, req, error, headers) do
    if function_exported?(resource, :refuse, 3),
      do: resource.refuse(req, error, headers),
      else: Reply.error(req, error, headers)
  end

  defp serve(resource, action, req) do
    if CORS.preflight?(req),
      do: {:ok, CORS.answer(req, resource.methods(action))},
      else: serve(resource, action, :cowboy_req.method(req), req)
  end

  defp serve(resource, action, method, req) do
    with :ok <- check_method(method, resource.methods(action)),
         :ok <- check_origin(method, req),
         access = access(resource, action),
         {:ok, caller} <- caller(access, req) do
      kept = if access == :browser, do: ["cookie"], else: []
      resource.handle(action, method, Auth.redact(req, kept), caller)
    end
  catch
    # Cowboy's way to say that a part of the request cannot be read.
    :exit, {:request_error, part, _reason} ->
      {:error, Error.new("invalid_request", "The request has a malformed #{part(part)}.")}

    kind, reason ->
      {:error, failure(kind, reason, __STACKTRACE__)}
  end

  defp part(:qs), do: "query string"
  defp part({:header, name}), do: "header #{Shown.text(name)}"
  defp part(part), do: "part #{Shown.reason(part)}"

  # A call into a part of the server that is restarting at this moment.
  defp failure(:exit, {_reason, {GenServer, :call, _arguments}}, _stacktrace) do
    message = "This part of the server is restarting; try again."
    Error.new("unavailable", message, retry_after_ms: 1_000)
  end

  defp failure(kind, reason, stacktrace) do
    Logger.error(Exception.format(kind, reason, stacktrace))
    Error.new("internal", "The server failed on this request; its log says why.")
  end

  defp check_method(method, allowed) do
    if method in allowed do
      :ok
    else
      allow = Enum.join(allowed, ", ")
      message = "This route takes #{allow}."
      details = [field: "method", value: method, bound: allow]
      {:error, Error.new("method_not_allowed", message, details), %{"allow" => allow}}
    end
  end

  defp access(resource, action) do
    if function_exported?(resource, :access, 1), do: resource.access(action), else: :key
  end

  defp caller(:public, req), do: {:ok, Auth.guest(req)}

  defp caller(:browser, req) do
    with :ok <- Auth.check_host(req), do: {:ok, %Caller{}}
  end

  defp caller(:key, req) do
    with {:ok, caller} <- Auth.caller(req),
         :ok <- Access.admit(caller),
         do: {:ok, caller}
  end

  defp caller(:metrics, req) do
    with {:ok, caller} <- caller(:key, req),
         :ok <- Access.check_metrics(caller),
         do: {:ok, caller}
  end

  defp caller(:operator, req) do
    with {:ok, caller} <- caller(:key, req),
         :ok <- Access.check_operator(caller),
         do: {:ok, caller}
  end

  # Reading is left to the browser's own rule; what changes something must come from our pages.
  defp check_origin(method, _req) when method in ["GET", "HEAD"], do: :ok
  defp check_origin(_method, req), do: Auth.check_origin(req)
end
